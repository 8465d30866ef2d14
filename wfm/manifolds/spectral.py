"""Functions of symmetric matrices whose derivatives survive repeated eigenvalues.

Derivatives of an eigendecomposition are NaN there, and every geodesic of length 0 has repeated
eigenvalues.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Matrix = Float[Array, "n n"]
Tensor = Float[Array, "n n n n"]
HALVINGS = 6
TERMS = 10


def expm1(a: Matrix) -> Matrix:
    """exp(a) - 1 by its series, halved and squared again (Higham 2008, section 10.3).

    It uses matrix products only, so all derivatives exist. It subtracts 1, so small steps keep
    their digits.
    """
    eye = jnp.eye(len(a), dtype=a.dtype)
    a = a / 2**HALVINGS
    series = eye
    for k in range(TERMS, 1, -1):
        series = eye + a @ series / k
    result = a @ series
    for _ in range(HALVINGS):
        result = 2 * result + result @ result
    return result


@jax.custom_jvp
def log1p(a: Matrix) -> Matrix:
    """log(1 + a), for a symmetric matrix with eigenvalues above -1."""
    values, vectors = jnp.linalg.eigh(a)
    return vectors * jnp.log1p(values)[None] @ vectors.T


@log1p.defjvp
def _log1p_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    (a,), (da,) = primals, tangents
    slope = _derivative(jax.lax.stop_gradient(a), da, _log1p_quotient)
    return log1p(a), slope + jnp.einsum("ijkl,kl->ij", _log1p_bend(a), da)


@jax.custom_jvp
def _log1p_bend(a: Matrix) -> Tensor:
    """Zeros whose derivatives are those of the derivative of `log1p`.

    It is added to the derivative by eigenvectors, which is held fixed: that is cheap, but has no
    derivative of its own. One rule for both would be expanded where the derivative is transposed.
    """
    return jnp.zeros(a.shape * 2, a.dtype)


@_log1p_bend.defjvp
def _log1p_second(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Tensor, Tensor]:
    """Derivatives of second and higher order, from the integral: slower, but they exist."""
    return _log1p_bend(*primals), jax.jvp(_log1p_integral, primals, tangents)[1]


def _derivative(a: Matrix, da: Matrix, quotient: Callable[[Array, Array], Array]) -> Matrix:
    """`da` times divided differences in the eigenbasis (Higham 2008, theorem 3.11)."""
    values, vectors = jnp.linalg.eigh(a)
    turned = vectors.T @ da @ vectors
    return vectors @ (quotient(values[:, None], values[None]) * turned) @ vectors.T


def _log1p_quotient(s: Array, t: Array) -> Array:
    """(log1p(s) - log1p(t)) / (s - t) = artanh(w)/w · 2/(2+s+t) with w = (s-t)/(2+s+t)."""
    total = 2 + s + t
    w = (s - t) / total
    near = jnp.abs(w) < 1e-2
    far = jnp.where(near, 0.5, w)
    # artanh(w)/w loses digits as w approaches 1; log1p does not.
    ratio = jnp.where(near, 1 + w**2 / 3 + w**4 / 5, (jnp.log1p(s) - jnp.log1p(t)) / (2 * far))
    return ratio * 2 / total


def _log1p_integral(a: Matrix) -> Tensor:
    """da ↦ ∫ (s + 1 + a)⁻¹ da (s + 1 + a)⁻¹ ds over s > 0 (Higham 2008, equation 11.1).

    By the trapezoidal rule in log s, which converges as exp(-2π²/h).
    """
    h = 0.5
    eye = jnp.eye(len(a), dtype=a.dtype)
    s = jnp.exp(jnp.arange(-40, 40 + h, h, dtype=a.dtype))
    inverse = jax.vmap(lambda s: jnp.linalg.inv((1 + s) * eye + a))(s)
    return h * jnp.einsum("s,sik,slj->ijkl", s, inverse, inverse)


@jax.custom_jvp
def raise_eigenvalues(a: Matrix) -> Matrix:
    """The nearest symmetric matrix with eigenvalues of at least 64 ε times the largest magnitude.

    A matrix of zeros becomes the identity.
    """
    values, vectors = jnp.linalg.eigh(a)
    lift = jnp.maximum(_floor(values) - values, 0)
    return jnp.where(jnp.any(lift > 0), a + vectors * lift[None] @ vectors.T, a)


@raise_eigenvalues.defjvp
def _raise_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    (a,) = primals
    return raise_eigenvalues(a), _derivative(a, *tangents, _raise_quotient)


def _floor(values: Array) -> Array:
    """The smallest eigenvalue that is kept, for all eigenvalues."""
    size = jnp.abs(values).max()
    return jnp.where(size > 0, 64 * jnp.finfo(values.dtype).eps * size, 1.0)


def _raise_quotient(s: Array, t: Array) -> Array:
    floor = _floor(s)
    gap = s - t
    above = (s > floor).astype(s.dtype)
    rise = jnp.maximum(s, floor) - jnp.maximum(t, floor)
    return jnp.where(gap != 0, rise / jnp.where(gap != 0, gap, 1.0), above)


def sinhc(s: Array) -> Array:
    """sinh(s)/s."""
    near = jnp.abs(s) < 1e-2
    far = jnp.where(near, 1.0, s)
    return jnp.where(near, 1 + s**2 / 6 + s**4 / 120, jnp.sinh(far) / far)
