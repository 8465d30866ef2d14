"""Spheres inside arrays: one over the whole array, or one for each slice."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.draws import normal
from wfm.errors import UserError
from wfm.manifolds.base import Manifold, Point, Scalar, replaced_if_any, safe_norm, safe_sqrt
from wfm.manifolds.euclidean import Euclidean


class Sphere(Manifold):
    """Arrays whose norm over `axes` is `radius`; `axes=None` means the whole array.

    `Sphere((30, 16), axes=0)` is 16 unit spheres, one for each column;
    `Sphere((16, 2), radius=2**0.5)` is one sphere in 32 dimensions.
    Formulas: Absil, Mahony & Sepulchre (2008), Optimization Algorithms on Matrix Manifolds.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    axes: tuple[int, ...] = eqx.field(static=True)
    radius: float = eqx.field(static=True)

    def __init__(
        self, shape: Sequence[int], axes: int | Sequence[int] | None = None, radius: float = 1.0
    ):
        rank = len(shape)
        axes = range(rank) if axes is None else (axes,) if isinstance(axes, int) else axes
        if any(not -rank <= a < rank for a in axes) or len({a % rank for a in axes}) < len(axes):
            raise UserError(f"axes {tuple(axes)} do not fit shape {tuple(shape)}")
        if not 0 < radius < math.inf:
            raise UserError(f"a sphere needs a positive radius, got {radius}")
        if math.prod(shape[a] for a in axes) < 2:
            raise UserError(
                f"a sphere in one dimension (shape {tuple(shape)}, axes {tuple(axes)}) is two "
                "points that no path joins; use wider layers, or model these weights as trained"
            )
        self.shape = tuple(shape)
        self.axes = tuple(sorted(a % rank for a in axes))
        self.radius = float(radius)

    @property
    def _ambient_dim(self) -> int:
        """Dimension of the space around each single sphere."""
        return math.prod(self.shape[a] for a in self.axes)

    @property
    def _n_spheres(self) -> int:
        return math.prod(self.shape) // self._ambient_dim

    @property
    def dim(self) -> int:
        return self._n_spheres * (self._ambient_dim - 1)

    def _dot(self, u: Array, v: Array) -> Array:
        return jnp.sum(u * v, axis=self.axes, keepdims=True)

    def exp(self, x: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, "..."]:
        angle = safe_sqrt(self._dot(v, v)) / self.radius
        y = jnp.cos(angle) * x + jnp.sinc(angle / math.pi) * v  # sin(angle)/angle · v
        # Keeps rounding errors from adding up over many steps. Apart from them the length is that
        # of `x`, so it needs none of the care of `project`.
        return y * (self.radius / jnp.sqrt(self._dot(y, y)))

    def log(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        x, y = self._on_sphere(x), self._on_sphere(y)
        # Computed from the difference, which is exact for near points, not from x·y, whose arccos
        # loses every digit there. arctan2 is accurate up to the antipode.
        chord = y - x
        cos = 1 + self._dot(x, chord) / self.radius**2
        # Beyond the equator, computed from the sum, which is exact near the antipode: rounding of a
        # long chord would leave some of x in v.
        v = self.to_tangent(x, jnp.where(cos < 0, y + x, chord))
        rounding = 8 * jnp.finfo(v.dtype).eps * self.radius
        # All directions to the antipode are shortest: take a fixed one.
        at_antipode = (self._dot(v, v) <= rounding**2) & (cos < 0)
        v = jnp.where(at_antipode, self.to_tangent(x, self._fixed_direction(v)), v)
        sin = safe_sqrt(self._dot(v, v)) / self.radius
        angle = jnp.where(at_antipode, math.pi, jnp.arctan2(sin, cos))
        return jnp.where(sin > 0, angle / jnp.where(sin > 0, sin, 1.0), 1.0) * v

    def _on_sphere(self, x: Array) -> Array:
        """`x` unchanged, to the bit, if it is a point up to rounding; else its projection.

        It is computed in one pass, because every training step comes here. Lengths whose square
        underflows count as 0, and those whose square overflows give NaN.
        """
        square = self._dot(x, x) / self.radius**2
        centre = square == 0
        on = jnp.abs(square - 1) < math.sqrt(jnp.finfo(x.dtype).eps)
        scale = jnp.where(on, 1.0, jax.lax.rsqrt(jnp.where(centre, 1.0, square)))
        scale = jnp.where(jnp.isfinite(square), scale, jnp.nan)
        return x * scale + jnp.where(centre, self.radius * self._ambient_dim**-0.5, 0.0)

    def _fixed_direction(self, like: Array) -> Array:
        return jnp.cos(jnp.arange(like.size, dtype=like.dtype)).reshape(like.shape)

    def inner(self, x: Point, u: Float[Array, "..."], v: Float[Array, "..."]) -> Scalar:
        return jnp.sum(u * v)

    def squared_distances(
        self, x: Float[Array, "n ..."], y: Float[Array, "m ..."]
    ) -> Float[Array, "n m"]:
        x, y = jax.vmap(self._on_sphere)(x), jax.vmap(self._on_sphere)(y)
        axes = [1 + a for a in self.axes]
        x, y = (jnp.moveaxis(a, axes, range(1, 1 + len(axes))) for a in (x, y))
        x, y = (a.reshape(len(a), self._ambient_dim, -1) / self.radius for a in (x, y))
        # One matrix product per sphere. Its cosines are accurate to about 4 ε, which is nothing for
        # a large angle and everything for a small one: small angles, if any, come from chords.
        cos = jnp.einsum("iak,jak->ijk", x, y, precision="highest")
        near = cos > 1 - 2**15 * jnp.finfo(cos.dtype).eps
        far = jnp.arccos(jnp.where(near, 0.0, jnp.maximum(cos, -1)))

        def row(a: Array) -> Array:
            chord, middle = y - a[None], (y + a[None]) / 2
            rounding = jnp.sum(chord * middle, axis=1)  # the part along the radius
            square = jnp.sum(chord**2, axis=1) - rounding**2
            return 2 * jnp.arcsin(safe_sqrt(square) / 2)

        angles = replaced_if_any(near, far, lambda: jax.lax.map(row, x))
        return ((self.radius * angles) ** 2).sum(-1)

    def transport(
        self, x: Float[Array, "..."], y: Float[Array, "..."], v: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        # Rotates the plane of x and log(x, y), in a form that is smooth at x = y.
        w = self.log(x, y)
        angle = safe_sqrt(self._dot(w, w)) / self.radius / math.pi
        turned = jnp.sinc(angle) * x + jnp.sinc(angle / 2) ** 2 / 2 * w
        return v - self._dot(w, v) / self.radius**2 * turned

    def project(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        length = safe_norm(x, self.axes)
        centre = length == 0  # without a closest point: take a fixed one
        unit = jnp.where(centre, self._ambient_dim**-0.5, x / jnp.where(centre, 1.0, length))
        return self.radius * unit

    def to_tangent(self, x: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, "..."]:
        return v - self._dot(x, v) / self.radius**2 * x

    @property
    def is_compact(self) -> bool:
        return True

    def uniform(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return self.project(normal(key, self.shape))

    def log_total_volume(self) -> Scalar:
        n = self._ambient_dim
        log_area = (
            math.log(2)
            + n / 2 * math.log(math.pi)
            + (n - 1) * math.log(self.radius)
            - math.lgamma(n / 2)
        )
        return jnp.asarray(self._n_spheres * log_area)

    def ambient(self) -> Euclidean:
        return Euclidean(self.shape)
