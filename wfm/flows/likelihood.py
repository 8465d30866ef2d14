"""Change of density along a flow."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm.batching import map_batched
from wfm.draws import normal_like, rademacher_like
from wfm.errors import UserError
from wfm.flows.integrator import Integrator
from wfm.flows.noise import VelocityAt
from wfm.manifolds import Euclidean, Manifold, Point, Product, Tangent
from wfm.manifolds.base import Scalar

BASIS_CHUNK = 64  # directions at a time, to bound memory
MOST_TERMS = 100  # of a series, whose terms must then fall by an eighth each
SMALLEST_TERM = 1e-6

Linear = Callable[[Point], Point]


class LogProb(NamedTuple):
    """A log-density in nats, and its possible error."""

    value: Scalar
    error: Scalar


class Divergence(eqx.Module):
    """A way to compute changes of volume: divergences of fields, determinants of steps.

    With respect to the Riemannian volume, div v = tr(P Dv P) + Dω v, where P projects to the
    tangent space and ω is the manifold's `log_volume`: P Dv is the covariant derivative in ambient
    coordinates, where ω = 0 (Absil, Mahony & Sepulchre 2008, section 5.3; O'Neill 1983,
    'Semi-Riemannian Geometry', lemma 4.3); in a chart P = 1 and div v = Σᵢ ∂ᵢ(√g vⁱ)/√g. With
    the manifold's `frame` F, where F Fᵀ is the inverse of the metric, the trace is that of F* Dv F,
    a linear map of ambient arrays. A subclass says what it does with such maps.
    """

    def __call__(
        self, space: Manifold, velocity: VelocityAt, t: Any, x: Point, key: Key[Array, ""] | None
    ) -> tuple[Tangent, Scalar]:
        """The velocity at `x`, and its divergence there."""
        v, push = jax.linearize(lambda x: velocity(t, x), x)

        def slope(a: Point) -> Point:
            return coordinates(space, x, space.to_tangent(x, push(space.frame(x, a))))

        along = jax.jvp(space.log_volume, (x,), (v,))[1]
        return v, self.trace(slope, x, key) + along

    @abc.abstractmethod
    def trace(self, linear: Linear, like: Point, key: Key[Array, ""] | None) -> Scalar:
        """Trace of a linear map of arrays shaped `like` these."""

    @abc.abstractmethod
    def log_determinant(self, linear: Linear, like: Point, key: Key[Array, ""] | None) -> Scalar:
        """Log-determinant of a linear map near the identity; NaN if it is too far from it."""

    @abc.abstractmethod
    def solve(self, linear: Linear, target: Point) -> Point:
        """Approximate solution of `linear(x) = target`, for `linear` near the identity."""


class Exact(Divergence):
    """Exact computation from all matrix entries, with one derivative per coordinate."""

    def trace(self, linear: Linear, like: Point, key: Key[Array, ""] | None) -> Scalar:
        return jnp.trace(self._transposed(linear, like))

    def log_determinant(self, linear: Linear, like: Point, key: Key[Array, ""] | None) -> Scalar:
        """NaN unless the symmetric part is positive definite.

        If it is positive definite on a convex domain, the map is one-to-one there (Gale & Nikaidô
        1965, theorem 6). Otherwise several points may go to the same one, which has a density from
        each of them.
        """
        matrix = self._transposed(linear, like)
        monotone = jnp.isfinite(jnp.linalg.cholesky(matrix + matrix.T)).all()
        return jnp.where(monotone, jnp.linalg.slogdet(matrix)[1], jnp.nan)

    def solve(self, linear: Linear, target: Point) -> Point:
        flat, unflatten = jax.flatten_util.ravel_pytree(target)
        return unflatten(jnp.linalg.solve(self._transposed(linear, target).T, flat))

    def _transposed(self, linear: Linear, like: Point) -> Float[Array, "n n"]:
        flat, unflatten = jax.flatten_util.ravel_pytree(like)

        def row(i: Array) -> Float[Array, " n"]:
            return jax.flatten_util.ravel_pytree(
                linear(unflatten(jnp.zeros_like(flat).at[i].set(1)))
            )[0]

        return map_batched(row, jnp.arange(flat.size), BASIS_CHUNK)


class Hutchinson(Divergence):
    """An unbiased estimate from `probes` random directions (Hutchinson 1989).

    The whole path uses the same directions (Grathwohl et al. 2019, arXiv 1810.01367). Signs vary
    less than Gaussian probes, which `gaussian` selects. Determinants are estimated by the series of
    the logarithm (Behrmann et al. 2019, arXiv 1811.00995), and steps are undone by iteration. Both
    converge only if a step changes lengths by less than the lengths themselves.
    """

    probes: int = eqx.field(static=True, default=1)
    gaussian: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if self.probes < 1:
            raise UserError(f"an estimate needs at least 1 probe, got {self.probes}")

    def trace(self, linear: Linear, like: Point, key: Key[Array, ""] | None) -> Scalar:
        return self._mean(lambda z: _dot(z, linear(z)), like, key)

    def log_determinant(self, linear: Linear, like: Point, key: Key[Array, ""] | None) -> Scalar:
        """tr log A = -Σₖ tr (1 - A)ᵏ / k; NaN if the terms do not vanish."""

        def estimate(z: Point) -> Scalar:
            size = _dot(z, z)

            def unfinished(state: tuple[Array, Point, Scalar]) -> Array:
                k, power, _ = state
                small = _dot(power, power) <= SMALLEST_TERM**2 * size
                return ~small & (k < MOST_TERMS)

            def add(state: tuple[Array, Point, Scalar]) -> tuple[Array, Point, Scalar]:
                k, power, total = state
                power = jax.tree.map(jnp.subtract, power, linear(power))
                return k + 1, power, total - _dot(z, power) / (k + 1)

            k, _, total = jax.lax.while_loop(
                unfinished, add, (jnp.array(0), z, jnp.zeros_like(size))
            )
            return jnp.where(k < MOST_TERMS, total, jnp.nan)

        return self._mean(estimate, like, key)

    def solve(self, linear: Linear, target: Point) -> Point:
        """`target` itself: the first term of Neumann's series; iteration gives the rest."""
        return target

    def _mean(
        self, estimate: Callable[[Point], Scalar], like: Point, key: Key[Array, ""] | None
    ) -> Scalar:
        if key is None:
            raise UserError("Hutchinson's estimate draws random probes: give a key")
        draw = normal_like if self.gaussian else rademacher_like
        one = lambda k: estimate(draw(k, like))  # noqa: E731
        return jax.vmap(one)(jax.random.split(key, self.probes)).mean()


def coordinates(space: Manifold, x: Point, v: Tangent) -> Point:
    """F* v: the shortest arrays that the manifold's frame at `x` maps to `v`."""
    zero = jax.tree.map(jnp.zeros_like, x)
    return jax.grad(lambda a: space.inner(x, space.frame(x, a), v))(zero)


def _dot(a: Point, b: Point) -> Scalar:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)), jnp.zeros(()))


def integrate_divergence(
    space: Manifold,
    velocity: VelocityAt,
    x: Point,
    integrator: Integrator,
    times: Float[Array, " times"],
    divergence: Divergence,
    key: Key[Array, ""] | None,
) -> tuple[Point, Scalar]:
    """Where `velocity` carries `x` over `times`, and ∫ div v dt on the way there.

    Since d log p_t(x_t)/dt = -div v (Chen et al. 2018, arXiv 1806.07366, theorem 1; on manifolds
    Mathieu & Nickel 2020), this is how much log p falls from the first of `times` to the last.
    """

    def slope(t: Any, state: tuple[Point, Scalar], _: Any) -> tuple[Tangent, Scalar]:
        return divergence(space, velocity, t, state[0], key)

    both = Product((space, Euclidean(())))
    start = (x, jnp.zeros(()))
    solution = integrator.solve(both, diffrax.ODETerm(slope), start, times)
    end, total = jax.tree.map(lambda a: a[-1], solution.ys)
    return end, total
