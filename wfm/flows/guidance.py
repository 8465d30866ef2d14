"""Guidance: a velocity that also descends an objective."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from wfm.errors import UserError
from wfm.flows.field import as_tree
from wfm.flows.prediction import OnPath, Prediction, Spaces, Unit
from wfm.manifolds import Point, Tangent
from wfm.manifolds.base import Scalar

Objective = Callable[[Point, Key[Array, ""]], Scalar]
"""What guidance makes small: a number for a point; the key is for random batches."""


class Guided(Prediction):
    """The velocity of `prediction`, minus `scale` times the Riemannian gradient of `objective`.

    `objective(point, key)` is a number to minimise, such as the loss on a mini-batch drawn by
    `key`. Each time t has its own batch, so the velocity remains a function of time and place, and
    the same steps use the same batches, forwards and backwards. The gradient is taken at the
    predicted end point x̂₁ and transported to x_t, without derivatives of the field, or at x_t
    itself (Erdogan 2025), which early on is a network that computes nothing yet. `scale` is a
    number or a function of t. Euler's method with n steps moves like n steps of gradient descent
    with rate scale / n.
    """

    prediction: Prediction
    objective: Objective = eqx.field(converter=as_tree)
    scale: float | Callable[[Scalar], Scalar] = eqx.field(static=True)
    key: Key[Array, ""]
    at_end_point: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        if isinstance(self.scale, float | int) and not math.isfinite(self.scale):
            raise UserError(f"the scale of guidance must be finite, got {self.scale}")

    def describe(self) -> dict[str, Any]:
        """Raise `UserError`, for a guided flow cannot be saved."""
        raise UserError(
            "guidance goes down an objective, which is code; save the flow that is guided, and "
            "guide it again when it is loaded"
        )

    @property
    def lands(self) -> bool:
        return self.prediction.lands

    def jumps(self, x: Point) -> bool:
        """Whether the objective uses its key, so that every time has its own batch."""
        traced = jax.make_jaxpr(lambda key: self.objective(x, key))(self.key).jaxpr
        drawn = any(traced.invars[0] is v for equation in traced.eqns for v in equation.invars)
        return drawn or self.prediction.jumps(x)

    def velocity(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Tangent:
        v = self.prediction.velocity(spaces, t, x, out)
        scale = self.scale(t) if callable(self.scale) else self.scale
        down = self._gradient(spaces, t, x, out)
        return jax.tree.map(lambda v, g: v - scale * g, v, down)

    def end_point(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Point:
        return self.prediction.end_point(spaces, t, x, out)

    def loss(self, spaces: Spaces, at: OnPath, out: Point, unit: Unit) -> Scalar:
        return self.prediction.loss(spaces, at, out, unit)

    def _gradient(self, spaces: Spaces, t: Scalar, x: Point, out: Point) -> Tangent:
        bits = jax.lax.bitcast_convert_type(jnp.asarray(t, jnp.float32), jnp.uint32)
        gradient = jax.grad(self.objective)
        key = jax.random.fold_in(self.key, bits)
        if not self.at_end_point:
            return spaces.space.gradient(x, gradient(x, key))
        end = self.end_point(spaces, t, x, out)
        return spaces.space.transport(end, x, spaces.target.gradient(end, gradient(end, key)))
