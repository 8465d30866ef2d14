"""Arrays that sum to zero along an axis."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.manifolds.base import Manifold, Scalar


class ZeroSum(Manifold):
    """The points of `whole` that sum to 0 along `axis`, an isometric copy of `short`.

    `short` is the same manifold with that axis shorter by 1: `ZeroSum(Sphere((16, 3), radius=r),
    Sphere((16, 2), radius=r), axis=1)` holds arrays of shape (16, 3) and norm r whose rows sum to
    0. Reflection in the set of these points must be a symmetry of `whole`, as it is for flat spaces
    and for spheres over the whole axis. Then geodesics between these points stay among them
    (O'Neill 1983, Semi-Riemannian Geometry, chapter 4), and metric and distances are those of
    `whole`, to the last digit. All else is that of `short`, by an isometry: the first C - 1 columns
    of the Householder reflection that takes the last unit vector to (1, …, 1)/√C. So densities are
    exact.
    """

    whole: Manifold
    short: Manifold
    axis: int = eqx.field(static=True)

    @property
    def dim(self) -> int:
        return self.short.dim

    def exp(self, x: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, "..."]:
        return self._lengthened(self.short.exp(*map(self._shortened, (x, v))))

    def log(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        start = self._shortened(x)  # difference first: a point's log to itself is 0
        return self._lengthened(self.short.log(start, start + self._shortened(y - x)))

    def inner(
        self, x: Float[Array, "..."], u: Float[Array, "..."], v: Float[Array, "..."]
    ) -> Scalar:
        return self.whole.inner(x, u, v)

    def dist(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Scalar:
        return self.whole.dist(x, y)

    def squared_distances(
        self, x: Float[Array, "n ..."], y: Float[Array, "m ..."]
    ) -> Float[Array, "n m"]:
        return self.whole.squared_distances(x, y)

    def transport(
        self, x: Float[Array, "..."], y: Float[Array, "..."], v: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        return self._lengthened(self.short.transport(*map(self._shortened, (x, y, v))))

    def project(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self._lengthened(self.short.project(self._shortened(x)))

    def to_tangent(self, x: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.whole.to_tangent(x, v - v.mean(self.axis, keepdims=True))

    @property
    def is_compact(self) -> bool:
        return self.short.is_compact

    def uniform(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return self._lengthened(self.short.uniform(key))

    def log_total_volume(self) -> Scalar:
        return self.short.log_total_volume()

    def origin(self) -> Float[Array, "..."]:
        return self._lengthened(self.short.origin())

    def normal(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return self._lengthened(self.short.normal(key))

    def log_stretch(self, x: Float[Array, "..."]) -> Scalar:
        return self.short.log_stretch(self._shortened(x))

    @property
    def is_vector_space(self) -> bool:
        return self.short.is_vector_space

    def ambient(self) -> "ZeroSum":
        """The flat space of arrays that sum to 0; a part off it is not a coordinate of a point."""
        return ZeroSum(self.whole.ambient(), self.short.ambient(), self.axis)

    def _shortened(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Coordinates in `short` of the part of `x` that sums to 0."""
        n = x.shape[self.axis]
        first, last = jnp.split(x, [n - 1], self.axis)
        return first + (last - x.sum(self.axis, keepdims=True) / n**0.5) / (n**0.5 - 1)

    def _lengthened(self, y: Float[Array, "..."]) -> Float[Array, "..."]:
        """The point with coordinates `y` in `short`."""
        n = y.shape[self.axis] + 1
        total = y.sum(self.axis, keepdims=True)
        return jnp.concatenate([y - total / (n - n**0.5), total / n**0.5], self.axis)
