"""Flat space of arrays."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.draws import normal
from wfm.manifolds.base import Manifold, Point, Scalar, replaced_if_any


class Euclidean(Manifold):
    """Arrays of one `shape`."""

    shape: tuple[int, ...] = eqx.field(static=True, converter=tuple)

    @property
    def dim(self) -> int:
        return math.prod(self.shape)

    def exp(self, x: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, "..."]:
        return x + v

    def log(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        return y - x

    def inner(self, x: Point, u: Float[Array, "..."], v: Float[Array, "..."]) -> Scalar:
        return jnp.sum(u * v)

    def squared_distances(
        self, x: Float[Array, "n ..."], y: Float[Array, "m ..."]
    ) -> Float[Array, "n m"]:
        x, y = (a.reshape(len(a), -1) for a in (x, y))
        centre = y.mean(0, keepdims=True)
        x, y = x - centre, y - centre  # a common offset then costs no digits
        squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
        # One matrix product, accurate to about 4 ε of the squares; near pairs use differences.
        found = squares - 2 * jnp.matmul(x, y.T, precision="highest")
        near = found <= 2**14 * jnp.finfo(x.dtype).eps * squares
        row = lambda a: ((y - a[None]) ** 2).sum(1)  # noqa: E731
        return replaced_if_any(near, found, lambda: jax.lax.map(row, x))

    def transport(self, x: Point, y: Point, v: Float[Array, "..."]) -> Float[Array, "..."]:
        return v

    def project(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return x

    def to_tangent(self, x: Point, v: Float[Array, "..."]) -> Float[Array, "..."]:
        return v

    @property
    def is_compact(self) -> bool:
        return False

    def origin(self) -> Float[Array, "..."]:
        return jnp.zeros(self.shape)

    def normal(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return normal(key, self.shape)

    def log_stretch(self, x: Point) -> Scalar:
        return jnp.zeros(())

    @property
    def is_vector_space(self) -> bool:
        return True

    def ambient(self) -> "Euclidean":
        return self
