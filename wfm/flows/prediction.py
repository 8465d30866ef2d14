"""What the network's output means: how it gives a velocity, and what it is compared with."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wfm.manifolds import Manifold, Point, Tangent
from wfm.manifolds.base import Scalar

SMALLEST_REMAINING_TIME = 1e-7

Unit = PyTree[float] | None


class Prediction(eqx.Module):
    """Meaning of the ambient array(s) `out` that a field returns at time t in x_t.

    `space` is where x_t moves, `target` where the data live. Where a prediction `lands`, its
    velocity cannot be evaluated at t=1, and integration ends with one Euler step, which lands on
    the predicted end point.
    """

    @property
    @abc.abstractmethod
    def lands(self) -> bool:
        """Whether integration ends with an Euler step."""

    def jumps(self, x: Point) -> bool:
        """Whether the velocity at points like `x` is random at every time anew."""
        return False

    @abc.abstractmethod
    def velocity(
        self, space: Manifold, target: Manifold, t: Scalar, x: Point, out: Point
    ) -> Tangent:
        """Velocity of the flow at `x`."""

    @abc.abstractmethod
    def end_point(
        self, space: Manifold, target: Manifold, t: Scalar, x: Point, out: Point
    ) -> Point:
        """x̂₁: where `x` will end if the velocity stays as it is."""

    @abc.abstractmethod
    def loss(
        self,
        space: Manifold,
        target: Manifold,
        x: Point,
        x1: Point,
        v: Tangent,
        out: Point,
        unit: Unit,
    ) -> Scalar:
        """Squared error at `x`, from where the path goes on with velocity `v` to `x1`."""


class EndPoint(Prediction):
    """`out`, projected to where the data live, is x̂₁; the velocity is log_x(x̂₁) / (1 - t).

    The loss is the squared geodesic distance from x̂₁ to x₁.
    """

    @property
    def lands(self) -> bool:
        return True

    def velocity(
        self, space: Manifold, target: Manifold, t: Scalar, x: Point, out: Point
    ) -> Tangent:
        remaining = jnp.maximum(1 - t, SMALLEST_REMAINING_TIME)
        return jax.tree.map(lambda v: v / remaining, space.log(x, target.project(out)))

    def end_point(
        self, space: Manifold, target: Manifold, t: Scalar, x: Point, out: Point
    ) -> Point:
        return target.project(out)

    def loss(
        self,
        space: Manifold,
        target: Manifold,
        x: Point,
        x1: Point,
        v: Tangent,
        out: Point,
        unit: Unit,
    ) -> Scalar:
        guess = target.project(out)
        return _squared_norm(target, guess, target.log(guess, x1), unit)


class Velocity(Prediction):
    """`out`, brought to the tangent space by its `frame`, is the velocity.

    Where the metric is that of the surrounding coordinates the frame is the projection (Chen &
    Lipman 2024, equation 13).
    """

    @property
    def lands(self) -> bool:
        return False

    def velocity(
        self, space: Manifold, target: Manifold, t: Scalar, x: Point, out: Point
    ) -> Tangent:
        return space.frame(x, out)

    def end_point(
        self, space: Manifold, target: Manifold, t: Scalar, x: Point, out: Point
    ) -> Point:
        v = space.frame(x, out)
        return target.project(space.exp(x, jax.tree.map(lambda v: (1 - t) * v, v)))

    def loss(
        self,
        space: Manifold,
        target: Manifold,
        x: Point,
        x1: Point,
        v: Tangent,
        out: Point,
        unit: Unit,
    ) -> Scalar:
        error = jax.tree.map(jnp.subtract, space.frame(x, out), v)
        return _squared_norm(space, x, error, unit)


def _squared_norm(manifold: Manifold, x: Point, v: Tangent, unit: Unit) -> Scalar:
    if unit is not None:
        v = jax.tree.map(lambda part, size: part / size, v, unit)
    return manifold.inner(x, v, v)
