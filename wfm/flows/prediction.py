"""Meanings of a network's output: how it gives a velocity, and what the loss compares it with."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, PyTree

from wfm.manifolds import Manifold, Point, Tangent
from wfm.manifolds.base import Scalar

SMALLEST_REMAINING_TIME = 1e-7

Unit = PyTree[ArrayLike] | None


class Spaces(NamedTuple):
    """Where paths run, and where the data live."""

    space: Manifold
    target: Manifold


class OnPath(NamedTuple):
    """A point of a path that continues with `velocity` and ends at `end`."""

    x: Point
    velocity: Tangent
    end: Point


class Prediction(eqx.Module):
    """Meaning of the ambient array(s) `out` that a field returns at time t and point x_t.

    If a prediction `lands`, its velocity cannot be evaluated at t=1. Integration then ends with one
    Euler step, which lands on the predicted end point.
    """

    @property
    @abc.abstractmethod
    def lands(self) -> bool:
        """Whether integration ends with an Euler step."""

    def jumps(self, x: Point) -> bool:
        """Whether the velocity at points like `x` is drawn anew at each time."""
        return False

    @abc.abstractmethod
    def velocity(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Tangent:
        """Velocity of the flow at `x`."""

    @abc.abstractmethod
    def end_point(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Point:
        """x̂₁: where `x` ends if the velocity stays constant."""

    @abc.abstractmethod
    def loss(self, spaces: Spaces, at: OnPath, out: Point, unit: Unit) -> Scalar:
        """Squared error, in which each part is divided by its `unit`."""


class X1Prediction(Prediction):
    """`out`, projected to where the data live, is x̂₁; the velocity is log_x(x̂₁) / (1 - t).

    The loss is the squared geodesic distance from x̂₁ to x₁.
    """

    @property
    def lands(self) -> bool:
        return True

    def velocity(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Tangent:
        remaining = jnp.maximum(1 - t, SMALLEST_REMAINING_TIME)
        way = spaces.space.log(x, spaces.target.project(out))
        return jax.tree.map(lambda v: v / remaining, way)

    def end_point(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Point:
        return spaces.target.project(out)

    def loss(self, spaces: Spaces, at: OnPath, out: Point, unit: Unit) -> Scalar:
        target = spaces.target
        guess = target.project(out)
        return _squared_norm(target, guess, target.log(guess, at.end), unit)


class VelocityPrediction(Prediction):
    """`out`, mapped to the tangent space by the `frame`, is the velocity.

    If the metric is that of the surrounding coordinates, the frame is the projection (Chen & Lipman
    2024, equation 13).
    """

    @property
    def lands(self) -> bool:
        return False

    def velocity(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Tangent:
        return spaces.space.frame(x, out)

    def end_point(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Point:
        v = spaces.space.frame(x, out)
        end = spaces.space.exp(x, jax.tree.map(lambda v: (1 - t) * v, v))
        return spaces.target.project(end)

    def loss(self, spaces: Spaces, at: OnPath, out: Point, unit: Unit) -> Scalar:
        error = jax.tree.map(jnp.subtract, spaces.space.frame(at.x, out), at.velocity)
        return _squared_norm(spaces.space, at.x, error, unit)


def _squared_norm(manifold: Manifold, x: Point, v: Tangent, unit: Unit) -> Scalar:
    if unit is not None:
        v = jax.tree.map(lambda part, size: part / jnp.asarray(size, part.dtype), v, unit)
    return manifold.inner(x, v, v)
