"""A flow: geometry, prior, path, coupling, times and prediction, composed."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from wfm.flows.coupling import Coupling, Independent
from wfm.flows.path import BetaTime, GeodesicPath
from wfm.flows.prediction import EndPoint, Prediction, Unit
from wfm.flows.prior import Prior, Reference
from wfm.flows.solver import GeodesicEuler
from wfm.manifolds import Manifold, Point, Tangent
from wfm.manifolds.base import Scalar

Field = Callable[[Any, Point], Point]


class Flow(eqx.Module):
    """Flow matching of data on a manifold: all a field is trained with, and used for.

    `space` is where paths run and samples are integrated, `target` where the data live (by
    default the same). So the three flows of Erdogan (2025, arXiv 2504.03710) are, for weights
    whose canonical form lives on `m`: Euclidean `Flow(flat)`, Geometric `Flow(m)`, Normalized
    `Flow(m.ambient(), target=m, prior=Reference(m))`.

    A field is any function `field(t, x)` from a time and a point to arrays of the same structure,
    whose meaning `prediction` fixes. `unit`, a pytree of positive numbers like a point, measures
    each part of the loss in its own unit.
    """

    space: Manifold
    target: Manifold
    prior: Prior
    path: GeodesicPath
    coupling: Coupling
    time: BetaTime
    prediction: Prediction
    unit: Unit

    def __init__(
        self,
        space: Manifold,
        target: Manifold | None = None,
        prior: Prior | None = None,
        path: GeodesicPath | None = None,
        coupling: Coupling | None = None,
        time: BetaTime | None = None,
        prediction: Prediction | None = None,
        unit: Unit = None,
    ):
        self.space = space
        self.target = target or space
        self.prior = prior or Reference(self.target)
        self.path = path or GeodesicPath()
        self.coupling = coupling or Independent()
        self.time = time or BetaTime()
        self.prediction = prediction or EndPoint()
        self.unit = unit

    def loss(self, field: Field, batch: Any, key: Key[Array, ""]) -> Scalar:
        """Mean loss over stacked data points (conditional flow matching, Lipman et al. 2023).

        The coupling says what a batch is: stacked points, or pairs where it is `Given`.
        """
        pair_key, key = jax.random.split(key)
        x0, x1 = self.coupling.pair(self.space, self.prior, batch, pair_key)
        keys = jax.random.split(key, len(jax.tree.leaves(x1)[0]))
        return jax.vmap(lambda *args: self._loss(field, *args))(x0, x1, keys).mean()

    def _loss(self, field: Field, x0: Point, x1: Point, key: Key[Array, ""]) -> Scalar:
        time_key, noise_key = jax.random.split(key)
        t = self.time.sample(time_key)
        x, v = self.path.sample(self.space, x0, x1, t, noise_key)
        out = field(t, x)
        return self.prediction.loss(self.space, self.target, x, x1, v, out, self.unit)

    def velocity(self, field: Field, t: Any, x: Point) -> Tangent:
        """Velocity dx/dt at time `t` in `x`."""
        return self.prediction.velocity(self.space, self.target, t, x, field(t, x))

    def integrate(self, field: Field, x0: Point, steps: int = 64) -> Point:
        """Where the flow carries `x0` (t=0) until t=1."""
        if steps < 1:
            raise ValueError(f"integration needs at least 1 step, got {steps}")
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, x, _: self.velocity(field, t, x)),
            GeodesicEuler(self.space),
            t0=0.0,
            t1=1.0,
            dt0=None,
            y0=x0,
            stepsize_controller=diffrax.StepTo(jnp.linspace(0, 1, steps + 1)),
            max_steps=steps,
        )
        return self.target.project(jax.tree.map(lambda a: a[-1], solution.ys))

    def sample(self, field: Field, key: Key[Array, ""], steps: int = 64) -> Point:
        """A new point: a draw of the prior, carried by the flow."""
        return self.integrate(field, self.prior.sample(key), steps)
