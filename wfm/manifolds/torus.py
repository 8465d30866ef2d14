"""The flat torus: arrays of angles."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.draws import flat
from wfm.manifolds.base import Manifold, Point, Scalar


class Torus(Manifold):
    """Arrays of angles in [-π, π], with the flat metric."""

    shape: tuple[int, ...] = eqx.field(static=True, converter=tuple)

    @property
    def dim(self) -> int:
        return math.prod(self.shape)

    def exp(self, x: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.project(x + v)

    def log(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.project(y - x)

    def inner(self, x: Point, u: Float[Array, "..."], v: Float[Array, "..."]) -> Scalar:
        return jnp.sum(u * v)

    def transport(self, x: Point, y: Point, v: Float[Array, "..."]) -> Float[Array, "..."]:
        return v

    def project(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        # Not `(x + π) % 2π - π`, which rounds small differences of angles away.
        return x - 2 * math.pi * jnp.round(x / (2 * math.pi))

    def off(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.zeros(())  # any number is an angle

    def to_tangent(self, x: Point, v: Float[Array, "..."]) -> Float[Array, "..."]:
        return v

    @property
    def is_compact(self) -> bool:
        return True

    def uniform(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return flat(jax.random.uniform, key, self.shape, float, -math.pi, math.pi)

    def log_total_volume(self) -> Scalar:
        return jnp.asarray(self.dim * math.log(2 * math.pi))

    def ambient(self) -> Manifold:
        raise NotImplementedError("the torus is given in angles, not in ambient coordinates")
