"""The density of a sampler's own steps, computed while taking or undoing them.

A sampler takes finitely many steps x ← φ(x), and its samples have the density of that map,
log p(φ(x)) = log p(x) - log|det dφ|, which differs a little from that of the flow itself.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from wfm.draws import rademacher_like
from wfm.errors import UserError
from wfm.flows.likelihood import Divergence, Linear, coordinates
from wfm.manifolds import Manifold, Point
from wfm.manifolds.base import Scalar

MOST_ITERATIONS = 100
ROUNDING = 16  # error of a step's end, in units of the last place of its length

Move = Callable[[Point], Point]


class Sampler(NamedTuple):
    """Steps in `space` over time intervals from `starts` to `ends`, perhaps followed by a landing.

    `step` maps an interval and a point to the next point.
    """

    space: Manifold
    step: Callable[[tuple[Any, Any], Point], Point]
    starts: Float[Array, " steps"]
    ends: Float[Array, " steps"]
    land: Move | None


def derivative(space: Manifold, move: Move, x: Point) -> tuple[Point, Linear]:
    """The image of `x` under `move`, and the derivative there as a linear map of ambient arrays.

    The map is 1 + F*(T dφ - 1) F, where T transports back to `x` and F is the manifold's frame
    there, so F* F is a projection. Both are isometries of tangent spaces, and the determinant is
    that of dφ in orthonormal bases. In flat space the map is dφ.
    """
    y, push = jax.linearize(move, x)

    def linear(a: Point) -> Point:
        v = space.frame(x, a)
        change = jax.tree.map(jnp.subtract, space.transport(y, x, push(v)), v)
        return jax.tree.map(jnp.add, a, coordinates(space, x, change))

    return y, linear


def forth(
    sampler: Sampler, x: Point, divergence: Divergence, key: Key[Array, ""] | None
) -> tuple[Point, Scalar]:
    """Where the `sampler` takes `x`, and the log-determinant of all steps."""

    def one(move: Move, x: Point) -> tuple[Point, Scalar]:
        y, linear = derivative(sampler.space, move, x)
        return y, divergence.log_determinant(linear, x, key)

    intervals = sampler.starts, sampler.ends
    x, logs = jax.lax.scan(lambda x, t: one(partial(sampler.step, t), x), x, intervals)
    if sampler.land is None:
        return x, logs.sum()
    x, last = one(sampler.land, x)
    return x, logs.sum() + last


def back(
    sampler: Sampler, x: Point, divergence: Divergence, key: Key[Array, ""] | None
) -> tuple[Point, Scalar]:
    """The point that `forth` takes to `x`, and the log-determinant; NaN if none is found."""

    def one(move: Move, end: Point) -> tuple[Point, Scalar]:
        x = undo(sampler.space, move, end, divergence)
        return x, divergence.log_determinant(derivative(sampler.space, move, x)[1], x, key)

    x, last = (x, jnp.zeros(())) if sampler.land is None else one(sampler.land, x)
    intervals = sampler.starts, sampler.ends
    x, logs = jax.lax.scan(
        lambda x, t: one(partial(sampler.step, t), x), x, intervals, reverse=True
    )
    return x, logs.sum() + last


def log_prob(
    sampler: Sampler,
    log_prior: Callable[[Point], Scalar],
    x: Point,
    divergence: Divergence,
    key: Key[Array, ""] | None,
) -> Scalar:
    """Log-density at `x` of the sampler's results, for draws with density `log_prior`."""

    def at(x: Point) -> Scalar:
        x0, change = back(sampler, x, divergence, key)
        return log_prior(x0) - change

    both = jax.tree.map(lambda *a: jnp.stack(a), x, rounded(sampler.space, x))
    value, near = jax.vmap(at)(both)
    # If the sampler brings points so close together that the number format cannot distinguish
    # them, x says nothing about its start.
    same = jnp.abs(value - near) <= 0.01 * jnp.maximum(1, jnp.abs(value))
    return known(jnp.where(same, value, jnp.nan))


def known(log_prob: Scalar) -> Scalar:
    """`log_prob`, unless it is already known to be NaN, outside compiled code."""
    if not isinstance(log_prob, Tracer) and jnp.isnan(log_prob):
        raise UserError(
            "the sampler has no known density here: a step is too long to be undone, may take "
            "several points to one, or rounding hides where it started; take more steps, guide "
            "less, use Exact for Hutchinson, or double precision"
        )
    return log_prob


def undo(space: Manifold, move: Move, end: Point, divergence: Divergence) -> Point:
    """The point that `move` takes to `end`, by Newton's method on the manifold.

    Absil, Mahony & Sepulchre (2008, section 6.1), starting from `end`. With an approximate solution
    of Newton's equation it is a fixed-point iteration. NaN if it does not converge.
    """
    enough = ROUNDING * jnp.finfo(_norm(end).dtype).eps * (1 + _norm(end))

    def unfinished(state: tuple[Point, Scalar, Scalar, Array]) -> Array:
        _, gap, before, n = state
        return ((gap > enough) | (gap < before)) & (n < MOST_ITERATIONS)  # until rounding is left

    def closer(
        state: tuple[Point, Scalar, Scalar, Array],
    ) -> tuple[Point, Scalar, Scalar, Array]:
        x, before, _, n = state
        y, linear = derivative(space, move, x)
        gap = space.log(y, end)
        target = coordinates(space, x, space.transport(y, x, gap))
        by = space.frame(x, divergence.solve(linear, target))
        return space.exp(x, by), _norm(gap), before, n + 1

    far = jnp.full_like(enough, jnp.inf)
    x, gap, *_ = jax.lax.while_loop(unfinished, closer, (end, far, far, jnp.array(0)))
    return jax.tree.map(lambda a: jnp.where(gap <= enough, a, jnp.nan), x)


def rounded(space: Manifold, x: Point) -> Point:
    """A point so near `x` that rounding cannot distinguish them."""
    size = ROUNDING * jnp.finfo(_norm(x).dtype).eps * _norm(x)
    signs = rademacher_like(jax.random.key(0), x)
    step = jax.tree.map(lambda a: a * size / _norm(signs), signs)
    return space.exp(x, space.frame(x, step))


def _norm(x: Point) -> Scalar:
    """Norm of the numbers themselves, in which rounding is measured."""
    return jnp.linalg.norm(jnp.stack([jnp.linalg.norm(a.ravel()) for a in jax.tree.leaves(x)]))
