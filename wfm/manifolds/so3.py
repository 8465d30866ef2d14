"""Rotations of space."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.manifolds.base import Manifold, Scalar, safe_norm
from wfm.manifolds.euclidean import Euclidean

Matrix = Float[Array, "3 3"]


class SO3(Manifold):
    """Rotation matrices (3, 3) with the metric tr(UᵀV) of all matrices.

    Rotations that differ by an angle θ are √2 θ apart, so at most √2 π, which is the injectivity
    radius. The volume is 16√2 π². Formulas: Rodrigues's, and unit quaternions, which keep every
    digit at angles near 0 and near π (Shepperd 1978, 'Quaternion from rotation matrix').
    """

    @property
    def dim(self) -> int:
        return 3

    def exp(self, x: Matrix, v: Matrix) -> Matrix:
        y = x + x @ _rotation_minus_1(_axial(x.T @ v))
        return y @ (3 * jnp.eye(3, dtype=y.dtype) - y.T @ y) / 2  # errors then do not add up

    def log(self, x: Matrix, y: Matrix) -> Matrix:
        return x @ _skew(_rotation_vector(x, y))

    def inner(self, x: Matrix, u: Matrix, v: Matrix) -> Scalar:
        return jnp.sum(u * v)

    def transport(self, x: Matrix, y: Matrix, v: Matrix) -> Matrix:
        # Half of the rotation on either side of xᵀv, as for every bi-invariant metric.
        half = jnp.eye(3, dtype=x.dtype) + _rotation_minus_1(_rotation_vector(x, y) / 2)
        return y @ _skew(half.T @ _axial(x.T @ v))

    def project(self, x: Matrix) -> Matrix:
        return _from_quaternion(_nearest_quaternion(x))

    def to_tangent(self, x: Matrix, v: Matrix) -> Matrix:
        return x @ _skew(_axial(x.T @ v))

    @property
    def is_compact(self) -> bool:
        return True

    def uniform(self, key: Key[Array, ""]) -> Matrix:
        q = jax.random.normal(key, (4,))
        return _from_quaternion(q / safe_norm(q))

    def log_total_volume(self) -> Scalar:
        return jnp.asarray(math.log(16 * math.sqrt(2) * math.pi**2))

    def ambient(self) -> Euclidean:
        return Euclidean((3, 3))


def _skew(a: Float[Array, "3"]) -> Matrix:
    """The matrix of b ↦ a × b."""
    zero = jnp.zeros_like(a[0])
    return jnp.array([[zero, -a[2], a[1]], [a[2], zero, -a[0]], [-a[1], a[0], zero]])


def _axial(m: Matrix) -> Float[Array, "3"]:
    """The vector of the antisymmetric part: projects, and inverts `_skew`."""
    return jnp.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]) / 2


def _rotation_minus_1(a: Float[Array, "3"]) -> Matrix:
    """Rodrigues's formula minus the identity."""
    turns, s = safe_norm(a)[0] / math.pi, _skew(a)
    return jnp.sinc(turns) * s + jnp.sinc(turns / 2) ** 2 / 2 * s @ s


def _rotation_vector(x: Matrix, y: Matrix) -> Float[Array, "3"]:
    """Axis times angle, at most π, of the rotation xᵀy."""
    # 4 q qᵀ for its quaternion q, from a difference that is exact for near rotations.
    products = _attitude(x.T @ (y - x)).at[0, 0].add(4)
    row = products[jnp.argmax(jnp.diagonal(products))]
    q = row / safe_norm(row)
    q = jnp.where(q[0] < 0, -q, q)
    sin = safe_norm(q[1:])
    angle = 2 * jnp.arctan2(sin, q[0])
    return jnp.where(sin > 0, angle / jnp.where(sin > 0, sin, 1.0), 2.0) * q[1:]


def _attitude(m: Matrix) -> Float[Array, "4 4"]:
    """The matrix K with qᵀ K q = tr(Rᵀm) for the rotation R of a unit quaternion q (Davenport)."""
    trace, axial = jnp.trace(m), 2 * _axial(m)
    rest = m + m.T - trace * jnp.eye(3, dtype=m.dtype)
    return jnp.block([[trace[None, None], axial[None]], [axial[:, None], rest]])


def _from_quaternion(q: Float[Array, "4"]) -> Matrix:
    turn = _skew(q[1:])
    return jnp.eye(3, dtype=q.dtype) + 2 * (q[0] * turn + turn @ turn)


def _nearest_quaternion(m: Matrix) -> Float[Array, "4"]:
    """The quaternion of a rotation nearest to `m`, where tr(Rᵀm) is largest."""
    size = jax.lax.stop_gradient(jnp.abs(m).max())
    # 0 is equally near to all rotations: take the identity.
    scaled = jnp.where(size > 0, m / jnp.where(size > 0, size, 1.0), jnp.eye(3, dtype=m.dtype))
    return _leading_eigenvector(_attitude(scaled))


@jax.custom_jvp
def _leading_eigenvector(k: Float[Array, "4 4"]) -> Float[Array, "4"]:
    values, vectors = jnp.linalg.eigh(k)
    # One shifted power iteration step undoes the rounding of a repeated eigenvalue.
    v = (k - values[0] * jnp.eye(4, dtype=k.dtype)) @ vectors[:, -1]
    return v / safe_norm(v)


@_leading_eigenvector.defjvp
def _leading_eigenvector_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The derivative; that of eigh is NaN if other eigenvalues are equal, as for rotations."""
    (k,), (dk,) = primals, tangents
    v = _leading_eigenvector(k)
    moved = dk @ v
    system = v @ k @ v * jnp.eye(4, dtype=k.dtype) - k + v[:, None] * v[None]
    return v, jnp.linalg.solve(system, moved - v * (v @ moved))
