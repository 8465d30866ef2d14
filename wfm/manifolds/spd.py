"""Symmetric positive definite matrices, such as covariances."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.draws import normal
from wfm.manifolds import spectral
from wfm.manifolds.base import Manifold, Scalar, check_dimension

Matrix = Float[Array, "n n"]


class SPD(Manifold):
    """Symmetric positive definite (n, n) matrices with the affine-invariant metric tr(x⁻¹u x⁻¹v).

    Densities are with respect to its volume; the origin is the identity. The congruence by a
    Cholesky factor L of x is an isometry that takes the identity to x, so everything is computed at
    the identity. Logarithms of eigenvalues are exact up to a relative rounding of the condition
    number. If that is above 1/ε, there is no factor, and results there are NaN.
    Formulas: Pennec, Fillard & Ayache (2006), 'A Riemannian Framework for Tensor Computing';
    Bhatia (2007), 'Positive Definite Matrices', chapter 6.
    """

    n: int = eqx.field(static=True)

    def __check_init__(self):
        check_dimension(self.n)

    @property
    def dim(self) -> int:
        return self.n * (self.n + 1) // 2

    def exp(self, x: Matrix, v: Matrix) -> Matrix:
        factor, w = _at_identity(x, v)
        half = factor @ (jnp.eye(self.n, dtype=x.dtype) + spectral.expm1(w / 2))
        far = half @ half.T  # positive at any distance, but near x its rounding would hide the step
        near = x + factor @ spectral.expm1(w) @ factor.T
        return _symmetric(jnp.where(jnp.abs(w).max() < 1, near, far))

    def log(self, x: Matrix, y: Matrix) -> Matrix:
        factor, w = _at_identity(x, y - x)
        return _symmetric(factor @ spectral.log1p(w) @ factor.T)

    def inner(self, x: Matrix, u: Matrix, v: Matrix) -> Scalar:
        return jnp.sum(_at_identity(x, u)[1] * _at_identity(x, v)[1])

    def transport(self, x: Matrix, y: Matrix, v: Matrix) -> Matrix:
        # E v Eᵀ with E = (y x⁻¹)^½ (Sra & Hosseini 2015, arXiv 1312.1039, section 2).
        factor, w = _at_identity(x, y - x)
        move = jnp.eye(self.n, dtype=x.dtype) + spectral.expm1(spectral.log1p(w) / 2)
        return _symmetric(factor @ move @ _at_identity(x, v)[1] @ move @ factor.T)

    def project(self, x: Matrix) -> Matrix:
        # The nearest matrix is singular and useless: take the nearest well-conditioned one.
        return _symmetric(spectral.raise_eigenvalues(_symmetric(x)))

    def to_tangent(self, x: Matrix, v: Matrix) -> Matrix:
        return _symmetric(v)

    def frame(self, x: Matrix, a: Matrix) -> Matrix:
        factor = jnp.linalg.cholesky(x)
        return _symmetric(factor @ _symmetric(a) @ factor.T)

    def log_volume(self, x: Matrix) -> Scalar:
        factor = jnp.linalg.cholesky(x)
        return -(self.n + 1) * jnp.log(jnp.diagonal(factor)).sum()

    @property
    def is_compact(self) -> bool:
        return False

    def origin(self) -> Matrix:
        return jnp.eye(self.n)

    def normal(self, key: Key[Array, ""]) -> Matrix:
        return _symmetric(normal(key, (self.n, self.n)))

    def log_stretch(self, x: Matrix) -> Scalar:
        # The exponential map's Jacobian is Π_{i<j} sinh(δ/2)/(δ/2), δ = |log λᵢ - log λⱼ| (Said et
        # al. 2017, arXiv 1507.01760, proposition 3).
        logs = jnp.log1p(jnp.linalg.eigvalsh(_symmetric(x) - jnp.eye(self.n, dtype=x.dtype)))
        gaps = (logs[:, None] - logs[None])[jnp.triu_indices(self.n, 1)] / 2
        return jnp.log(spectral.sinhc(gaps)).sum()

    def ambient(self) -> Manifold:
        raise NotImplementedError(
            "straight lines between positive matrices are no paths of the affine-invariant metric; "
            "use its geodesics"
        )


def _symmetric(a: Matrix) -> Matrix:
    return (a + a.T) / 2


def _at_identity(x: Matrix, v: Matrix) -> tuple[Matrix, Matrix]:
    """A factor L with x = L Lᵀ, and L⁻¹ v L⁻ᵀ."""
    factor = jnp.linalg.cholesky(x)
    solve = lambda b: jax.scipy.linalg.solve_triangular(factor, b, lower=True)  # noqa: E731
    return factor, _symmetric(solve(solve(v).T))
