"""Conditional paths from x₀ to x₁, and distributions of time along them."""

import equinox as eqx
import jax
from jaxtyping import Array, Key

from wfm.draws import normal_like
from wfm.errors import UserError
from wfm.manifolds import Manifold, Point, Tangent
from wfm.manifolds.base import Scalar


class GeodesicPath(eqx.Module):
    """x_t = exp_{x₀}(t log_{x₀} x₁), then Gaussian tangent noise of scale `sigma`.

    Chen & Lipman (2024, 'Flow matching on general geometries', section 3.2); in flat space it is
    the straight line of Lipman et al. (2023).
    """

    sigma: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        if self.sigma < 0:
            raise UserError(f"sigma is a noise scale and cannot be negative, got {self.sigma}")

    def sample(
        self, space: Manifold, x0: Point, x1: Point, t: Scalar, key: Key[Array, ""]
    ) -> tuple[Point, Tangent]:
        """x_t and the path's velocity there."""
        start = space.log(x0, x1)
        clean = space.exp(x0, jax.tree.map(lambda v: t * v, start))
        velocity = space.transport(x0, clean, start)
        if not self.sigma:
            return clean, velocity
        noise = space.frame(clean, normal_like(key, clean))
        x = space.exp(clean, jax.tree.map(lambda v: self.sigma * v, noise))
        return x, space.transport(clean, x, velocity)


class BetaTime(eqx.Module):
    """t ~ Beta(1, b) on [0, 1]: uniform for b = 1, more often early for b > 1."""

    b: float = 2.0

    def __check_init__(self):
        if not self.b > 0:
            raise UserError(f"b of Beta(1, b) must be positive, got {self.b}")

    def sample(self, key: Key[Array, ""]) -> Scalar:
        """One time, by inverting the distribution function 1 - (1 - t)^b."""
        return 1 - jax.random.uniform(key) ** (1 / self.b)
