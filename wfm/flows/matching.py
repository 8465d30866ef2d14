"""Flow matching: the training objective of a field."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from wfm.flows.coupling import Coupling, Independent
from wfm.flows.field import Field
from wfm.flows.flow import Flow
from wfm.flows.path import BetaTime, GeodesicPath
from wfm.flows.prediction import OnPath, Prediction, Spaces, Unit, X1Prediction
from wfm.manifolds import Manifold, Point
from wfm.manifolds.base import Scalar
from wfm.priors import Prior, standard


class FlowMatching(eqx.Module):
    """The objective of flow matching on a manifold (Lipman et al. 2023; Chen & Lipman 2024).

    `space` is where paths run and samples are integrated; `target` is where the data live (by
    default the same). For weights whose canonical form lives on `m`, the three flows of Erdogan
    (2025, arXiv 2504.03710) are: Euclidean `FlowMatching(flat)`, Geometric `FlowMatching(m)`,
    Normalized `FlowMatching(m.ambient(), target=m)`.

    A field is any function `field(t, x)` from a time and a point to arrays of the same structure,
    whose meaning `prediction` fixes. `unit`, a pytree of positive numbers like a point, measures
    each part of the loss in its own unit. `flow(field)` makes a flow from a trained field:

        flow, losses = wfm.learn(FlowMatching(Sphere((3,))), module, points, key)
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
        self.prior = prior or standard(self.target)
        self.path = path or GeodesicPath()
        self.coupling = coupling or Independent()
        self.time = time or BetaTime()
        self.prediction = prediction or X1Prediction()
        self.unit = jax.tree.map(jnp.asarray, unit)  # arrays: no new program for other data

    def flow(self, field: Field) -> Flow:
        """The flow that follows `field`."""
        independent = self.coupling.independent
        return Flow(self.space, field, self.target, self.prior, self.prediction, independent)

    def loss(self, field: Field, batch: Any, key: Key[Array, ""]) -> Scalar:
        """Mean loss over stacked data points.

        The coupling says what a batch is: stacked points, or pairs if it is `Paired`.
        """
        examples = self.examples(batch, key)
        return jax.vmap(lambda example: self.example_loss(field, *example))(examples).mean()

    def examples(self, batch: Any, key: Key[Array, ""]) -> tuple[Point, Point, Key[Array, " n"]]:
        """Stacked x₀ and x₁ of a batch, as the coupling pairs them, and a key for each pair."""
        pair_key, key = jax.random.split(key)
        x0, x1 = self.coupling.pair(self.space, self.prior, batch, pair_key)
        return x0, x1, jax.random.split(key, len(jax.tree.leaves(x1)[0]))

    def example_loss(self, field: Field, x0: Point, x1: Point, key: Key[Array, ""]) -> Scalar:
        """Loss of one pair, at a random time."""
        time_key, noise_key = jax.random.split(key)
        t = self.time.sample(time_key)
        x, v = self.path.sample(self.space, x0, x1, t, noise_key)
        spaces = Spaces(self.space, self.target)
        return self.prediction.loss(spaces, OnPath(x, v, x1), field(t, x), self.unit)
