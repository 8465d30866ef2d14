"""Hyperbolic space as a sheet of a hyperboloid, in Lorentz's coordinates."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.manifolds.base import Manifold, Scalar, check_dimension, safe_norm


class Hyperboloid(Manifold):
    """Arrays (x₀, x₁, …, x_n) with ⟨x, x⟩ = -1 and x₀ > 0, where ⟨u, v⟩ = Σᵢuᵢvᵢ - u₀v₀.

    Curvature is -1, and the origin o is (1, 0, …, 0). x₀ follows from the other entries, so no
    method reads it: an array off the sheet stands for its `project`. Lengths come from components
    in a frame (the boost that takes o to x), not from ⟨u, u⟩, which loses every digit far out.
    Points at distance r from o are exact up to a relative rounding of cosh r. Formulas: Nickel &
    Kiela (2018, arXiv 1806.03417); O'Neill (1983), chapter 4.
    """

    n: int = eqx.field(static=True)

    def __check_init__(self):
        check_dimension(self.n)

    @property
    def dim(self) -> int:
        return self.n

    def exp(self, x: Float[Array, " m"], v: Float[Array, " m"]) -> Float[Array, " m"]:
        length = safe_norm(self._components(x, v))
        return _lift(jnp.cosh(length) * x[1:] + _sinhc(length) * v[1:])

    def log(self, x: Float[Array, " m"], y: Float[Array, " m"]) -> Float[Array, " m"]:
        # y under the boost that takes x to o, from differences: exact for near points.
        chord, time = y[1:] - x[1:], _time(x)
        mean = (x[1:] + y[1:]) / (time + _time(y))
        moved = chord - x[1:] * jnp.sum(chord * (mean - x[1:] / (1 + time)))
        sinh = safe_norm(moved)
        ratio = jnp.where(sinh > 0, jnp.arcsinh(sinh) / jnp.where(sinh > 0, sinh, 1.0), 1.0)
        return self._from_components(x, ratio * moved)

    def inner(self, x: Float[Array, " m"], u: Float[Array, " m"], v: Float[Array, " m"]) -> Scalar:
        return jnp.sum(self._components(x, u) * self._components(x, v))

    def transport(
        self, x: Float[Array, " m"], y: Float[Array, " m"], v: Float[Array, " m"]
    ) -> Float[Array, " m"]:
        # In the frames of x and y it is the rotation that transports in the Poincaré ball.
        at_x, at_y = (a[1:] / (1 + _time(a)) for a in (x, y))
        return self._from_components(y, gyrate(at_x, at_y, self._components(x, v)))

    def project(self, x: Float[Array, " m"]) -> Float[Array, " m"]:
        return _lift(x[1:])

    def to_tangent(self, x: Float[Array, " m"], v: Float[Array, " m"]) -> Float[Array, " m"]:
        time, space = _time(x), x[1:]
        needed = jnp.sum(space * v[1:]) / time
        off = v[0] - needed
        # A rounding difference would be multiplied by x₀²: tangent vectors stay as they are.
        size = jnp.abs(v[0]) + jnp.sum(jnp.abs(space * v[1:])) / time
        noise = jnp.abs(off) < 8 * jnp.finfo(v.dtype).eps * size
        off = off - jax.lax.stop_gradient(jnp.where(noise, off, 0.0))
        moved = v[1:] - off * time * space
        return jnp.concatenate([(jnp.sum(space * moved) / time)[None], moved])

    def frame(self, x: Float[Array, " m"], a: Float[Array, " m"]) -> Float[Array, " m"]:
        return self._from_components(x, a[1:])

    @property
    def is_compact(self) -> bool:
        return False

    def origin(self) -> Float[Array, " m"]:
        return jnp.zeros(self.n + 1).at[0].set(1.0)

    def normal(self, key: Key[Array, ""]) -> Float[Array, " m"]:
        return jnp.concatenate([jnp.zeros(1), jax.random.normal(key, (self.n,))])

    def log_stretch(self, x: Float[Array, " m"]) -> Scalar:
        return log_hyperbolic_stretch(safe_norm(x[1:])[0], self.n)

    def ambient(self) -> Manifold:
        raise NotImplementedError(
            "the space around a hyperboloid is Lorentz's, which has no distances; use its geodesics"
        )

    def _from_components(self, x: Array, a: Array) -> Array:
        """The tangent vector at `x` that the boost from o to x makes of (0, a)."""
        time = jnp.sum(x[1:] * a)
        return jnp.concatenate([time[None], a + time / (1 + _time(x)) * x[1:]])

    def _components(self, x: Array, v: Array) -> Array:
        """The inverse: lengths and angles in these coordinates are Euclidean."""
        time = _time(x)
        return v[1:] - jnp.sum(x[1:] * v[1:]) / (time * (1 + time)) * x[1:]


def _time(x: Array) -> Array:
    """x₀, from the other entries."""
    return safe_norm(jnp.concatenate([jnp.ones_like(x[:1]), x[1:]]))[0]


def _lift(space: Array) -> Array:
    """The point with these entries after the first."""
    length = safe_norm(jnp.concatenate([jnp.ones_like(space[:1]), space]))
    return jnp.concatenate([length, space])


def _sinhc(s: Array) -> Array:
    return jnp.where(s > 0, jnp.sinh(s) / jnp.where(s > 0, s, 1.0), 1.0)


def gyrate(x: Float[Array, " n"], y: Float[Array, " n"], a: Float[Array, " n"]) -> Array:
    """The rotation gyr[y, -x] of `a`, for points `x` and `y` of the Poincaré ball.

    If frames at x and y are boosts from the origin, they differ by it along the geodesic (Ungar
    2008, 'A Gyrovector Space Approach to Hyperbolic Geometry'). It turns the plane of x and y by
    twice the angle φ with tan φ = |x ∧ y| / (1 - x·y). Computed from y - x, it is exact for near
    points.
    """
    chord = y - x
    turn = lambda a: x * jnp.sum(chord * a) - chord * jnp.sum(x * a)  # noqa: E731
    cos = 1 - jnp.sum(x * y)
    squared = jnp.sum(chord**2) + (1 - jnp.sum(x**2)) * (1 - jnp.sum(y**2))  # cos² + |x ∧ y|²
    turned = turn(a)
    return a + 2 / squared * (turn(turned) + cos * turned)


def log_hyperbolic_stretch(sinh: Scalar, n: int) -> Scalar:
    """(n-1) log(sinh(r) / r), the log-Jacobian of the exponential map at distance r, from sinh(r).

    Nagano et al. (2019, arXiv 1902.02992, section 3); Mathieu et al. (2019, arXiv 1901.06033,
    section 3.3).
    """
    r = jnp.arcsinh(sinh)
    return (n - 1) * jnp.log(jnp.where(r > 0, sinh / jnp.where(r > 0, r, 1.0), 1.0))
