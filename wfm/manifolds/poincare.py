"""Hyperbolic space as the Poincaré ball, a conformal model."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.manifolds.base import Manifold, Scalar, check_dimension, safe_norm
from wfm.manifolds.hyperboloid import gyrate, log_hyperbolic_stretch


class PoincareBall(Manifold):
    """Vectors of n entries shorter than 1, with the metric λ² u·v, λ = 2 / (1 - |x|²).

    Curvature is -1, and densities are with respect to the volume λⁿ dx. The origin is the centre.
    Points at distance r from it are exact up to a relative rounding of exp(r). Vectors longer than
    1 - √ε are shortened to that (r = 8.7 in float32, 18.7 in float64); `Hyperboloid` reaches
    further. Formulas: Ungar (2008), 'A Gyrovector Space Approach to Hyperbolic Geometry', written
    in y - x.
    """

    n: int = eqx.field(static=True)

    def __check_init__(self):
        check_dimension(self.n)

    @property
    def dim(self) -> int:
        return self.n

    def exp(self, x: Float[Array, " n"], v: Float[Array, " n"]) -> Float[Array, " n"]:
        half = v / _room(x)  # half of the components in the frame at x
        length = safe_norm(half)
        step = jnp.where(length > 0, jnp.tanh(length) / jnp.where(length > 0, length, 1.0), 1.0)
        # Möbius's x ⊕ w, written in x + w, so that going from the rim to the centre is exact too.
        w = step * half
        both = x + w
        x_w, x_both, w_both = jnp.sum(x * w), jnp.sum(x * both), jnp.sum(w * both)
        squared = (1 + x_w) ** 2 + jnp.sum(x**2) * jnp.sum(both**2) - x_both**2
        return self.project(((1 + x_w) * both + w_both * x - x_both * w) / squared)

    def log(self, x: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, " n"]:
        chord = y - x
        squared = jnp.sum(chord**2)
        sinh = safe_norm(chord)[0] / jnp.sqrt(_room(x) * _room(y))  # of half the distance
        ratio = jnp.where(sinh > 0, jnp.arcsinh(sinh) / jnp.where(sinh > 0, sinh, 1.0), 1.0)
        scale = ratio / (_room(y) * jnp.sqrt(1 + sinh**2))
        return scale * (_room(x) * chord - squared * x)

    def inner(self, x: Float[Array, " n"], u: Float[Array, " n"], v: Float[Array, " n"]) -> Scalar:
        return 4 * jnp.sum((u / _room(x)) * (v / _room(x)))

    def transport(
        self, x: Float[Array, " n"], y: Float[Array, " n"], v: Float[Array, " n"]
    ) -> Float[Array, " n"]:
        return _room(y) * gyrate(x, y, v / _room(x))

    def project(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        longest = 1 - math.sqrt(jnp.finfo(x.dtype).eps)
        length = safe_norm(x)
        return jnp.where(length > longest, longest / jnp.where(length > 0, length, 1.0), 1.0) * x

    def to_tangent(self, x: Float[Array, " n"], v: Float[Array, " n"]) -> Float[Array, " n"]:
        return v

    def frame(self, x: Float[Array, " n"], a: Float[Array, " n"]) -> Float[Array, " n"]:
        return a * _room(x) / 2

    def log_volume(self, x: Float[Array, " n"]) -> Scalar:
        return self.n * jnp.log(2 / _room(x))

    @property
    def is_compact(self) -> bool:
        return False

    def origin(self) -> Float[Array, " n"]:
        return jnp.zeros(self.n)

    def normal(self, key: Key[Array, ""]) -> Float[Array, " n"]:
        return jax.random.normal(key, (self.n,)) / 2

    def log_stretch(self, x: Float[Array, " n"]) -> Scalar:
        return log_hyperbolic_stretch(2 * safe_norm(x)[0] / _room(x), self.n)

    def ambient(self) -> Manifold:
        raise NotImplementedError(
            "the Poincaré ball is a chart, whose straight lines and distances mean nothing; "
            "use its geodesics"
        )


def _room(x: Array) -> Array:
    """1 - |x|²."""
    return 1 - jnp.sum(x**2)
