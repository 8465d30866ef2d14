"""Matching neurons by gradient descent over soft permutations (Sinkhorn re-basin)."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from wfm.errors import UserError
from wfm.ot import best_assignment, sinkhorn
from wfm.weights.matching import Matching, squared_distance
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import Permutation, mix

Scores = dict[str, Float[Array, "n n"]]
ROUGHLY = 1e-2  # error of the soft permutations' sums that a step of descent tolerates
Loss = Callable[[Weights], Float[Array, ""]]


class Objective(eqx.Module):
    """A loss of softly permuted networks; those of Peña et al. (2023, section 3.2)."""

    @abc.abstractmethod
    def __call__(self, reference: Weights, moved: Weights, key: Key[Array, ""]) -> Float[Array, ""]:
        """A number that is small if `moved` fits `reference`; `key` is for random objectives."""


class SquaredDistance(Objective):
    """L2: ‖reference − moved‖²."""

    def __call__(self, reference: Weights, moved: Weights, key: Key[Array, ""]) -> Float[Array, ""]:
        return squared_distance(reference, moved)


class MidpointLoss(Objective):
    """Mid: `loss` half-way between the networks."""

    loss: Loss

    def __call__(self, reference: Weights, moved: Weights, key: Key[Array, ""]) -> Float[Array, ""]:
        return self.loss(_between(reference, moved, 0.5))


class RandomPointLoss(Objective):
    """Rnd: `loss` at a uniformly random place between the networks."""

    loss: Loss

    def __call__(self, reference: Weights, moved: Weights, key: Key[Array, ""]) -> Float[Array, ""]:
        return self.loss(_between(reference, moved, jax.random.uniform(key)))


def _between(a: Weights, b: Weights, t: Any) -> Weights:
    return jax.tree.map(lambda x, y: x + t * (y - x), a, b)


class SinkhornMatching(Matching):
    """Matching by gradient descent on `objective` over soft permutations, rounded at the end.

    Sinkhorn re-basin (Peña et al. 2023): each group's soft permutation is `sinkhorn(X, τ)`. Adam
    learns the scores X in `steps` steps while the temperature τ falls geometrically between
    `temperatures`. The linear assignment on X is the result. X starts at zero, where all
    permutations have the same weight, so the result does not depend on the order of neurons.
    """

    objective: Objective = SquaredDistance()
    steps: int = eqx.field(static=True, default=100)
    learning_rate: float = eqx.field(static=True, default=0.1)
    temperatures: tuple[float, float] = eqx.field(static=True, default=(1.0, 0.5))
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        if self.steps < 1 or not min(self.learning_rate, *self.temperatures) > 0:
            raise UserError(
                f"steps, learning rate and temperatures must be positive, got {self.steps}, "
                f"{self.learning_rate} and {self.temperatures}"
            )

    def __call__(self, spec: WeightSpec, reference: Weights, weights: Weights) -> Permutation:
        optimizer = optax.adam(self.learning_rate)

        def loss(scores: Scores, temperature: Array, key: Key[Array, ""]) -> Float[Array, ""]:
            plans = {g: sinkhorn(x, temperature, tolerance=ROUGHLY) for g, x in scores.items()}
            return self.objective(reference, mix(spec, plans, weights), key)

        def step(state, inputs):
            scores, opt_state = state
            gradient = jax.grad(loss)(scores, *inputs)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (jax.tree.map(jnp.add, scores, updates), opt_state), None

        sizes = {group: spec.groups[group].size for group in spec.permutable}
        scores = {group: jnp.zeros((n, n)) for group, n in sizes.items()}
        first, last = self.temperatures
        temperatures = jnp.geomspace(first, last, self.steps)
        keys = jax.random.split(jax.random.key(self.seed), self.steps)
        state = (scores, optimizer.init(scores))
        (scores, _), _ = jax.lax.scan(step, state, (temperatures, keys))
        return {group: best_assignment(x) for group, x in scores.items()}
