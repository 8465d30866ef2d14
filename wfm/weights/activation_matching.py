"""Matching neurons by their activations on data."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wfm.errors import UserError
from wfm.ot import best_assignment
from wfm.weights.matching import Matching
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import Permutation


class ActivationMatching(Matching):
    """Matching by activations on `inputs`: minimises Σ ‖z_reference − π(z)‖² over inputs per group.

    One linear assignment for each group (or for all groups that share one order), on inner products
    of activations (Ainsworth, Hayase & Srinivasa 2023, section 3.1, after Li et al. 2015). Exact,
    and independent between groups.
    """

    inputs: Float[Array, "m ..."]

    def __check_init__(self):
        if len(self.inputs) < 1:
            raise UserError("activation matching needs at least one input to compare neurons on")

    def __call__(self, spec: WeightSpec, reference: Weights, weights: Weights) -> Permutation:
        ours, theirs = (self._activations(spec, w) for w in (reference, weights))
        similarity = {group: ours[group].T @ theirs[group] for group in ours}
        groups = {o: [g for g in similarity if spec.order(g) == o] for o in spec.permutable}
        return {
            order: best_assignment(functools.reduce(jnp.add, [similarity[g] for g in members]))
            for order, members in groups.items()
        }

    def _activations(self, spec: WeightSpec, weights: Weights) -> dict[str, Array]:
        """Per group, one column per neuron: over inputs, and places or depths if there are any."""
        values = jax.vmap(functools.partial(spec.activations, weights))(self.inputs)
        return {group: jnp.reshape(a, (-1, a.shape[-1])) for group, a in values.items()}
