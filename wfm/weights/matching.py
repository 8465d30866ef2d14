"""Matching the neurons of two networks: the interface, and weight matching (Git Re-Basin)."""

import abc
from collections.abc import Mapping
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from wfm.errors import UserError
from wfm.ot import best_assignment
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import Permutation, permute, random_permutation


class Matching(eqx.Module):
    """A method to find the permutation that brings one network close to another."""

    @abc.abstractmethod
    def __call__(self, spec: WeightSpec, reference: Weights, weights: Weights) -> Permutation:
        """The permutation π of `weights` for which π(weights) resembles `reference`."""


class WeightMatching(Matching):
    """Matching by the weights themselves: minimises ‖reference − π(weights)‖.

    Coordinate descent over the groups, one linear assignment each, until nothing changes
    (Ainsworth, Hayase & Srinivasa 2023, algorithm 1). It does not start at a random permutation,
    but matches group after group using only arrays whose other ends are already known. The start,
    and therefore the result, does not depend on the order of the neurons of `weights`, unless an
    assignment has a tie.

    Descent ends in a local optimum. `restarts` is the number of further starts from random
    permutations of the first result; the nearest result is kept. These permutations depend only on
    `seed`, so the order of neurons still does not matter.
    """

    max_sweeps: int = eqx.field(static=True, default=50)
    restarts: int = eqx.field(static=True, default=0)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        if self.max_sweeps < 0 or self.restarts < 0:
            raise UserError(
                f"max_sweeps and restarts cannot be negative, got {self.max_sweeps} and "
                f"{self.restarts}"
            )

    def __call__(self, spec: WeightSpec, reference: Weights, weights: Weights) -> Permutation:
        start: Permutation = {}
        for group in spec.permutable:
            similarity = _similarity(spec, group, start, reference, weights)
            start[group] = best_assignment(similarity)
        if len(spec.permutable) < 2:  # one assignment is exact
            return start
        first = self._descend(spec, start, reference, weights)
        if not self.restarts:
            return first
        # Of the network as first aligned, which is the same for all orders of its neurons.
        weights = permute(spec, first, weights)
        keys = jax.random.split(jax.random.key(self.seed), self.restarts)
        starts = jax.vmap(partial(random_permutation, spec))(keys)
        unmoved = jax.tree.map(jnp.arange, {g: spec.groups[g].size for g in first})
        starts = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), unmoved, starts)
        ends = jax.vmap(lambda p: self._descend(spec, p, reference, weights))(starts)
        distances = jax.vmap(lambda p: squared_distance(reference, permute(spec, p, weights)))
        best = jnp.argmin(distances(ends))
        return {group: first[group][ends[group][best]] for group in first}

    def _descend(
        self, spec: WeightSpec, start: Permutation, reference: Weights, weights: Weights
    ) -> Permutation:
        """The local optimum reached by sweeps over the groups."""

        def sweep(state):
            count, current, _ = state
            new = dict(current)
            for group in spec.permutable:
                new[group] = best_assignment(_similarity(spec, group, new, reference, weights))
            changed = [jnp.any(new[g] != current[g]) for g in spec.permutable]
            return count + 1, new, jnp.any(jnp.array(changed))

        return jax.lax.while_loop(
            lambda state: state[2] & (state[0] < self.max_sweeps), sweep, (0, start, True)
        )[1]


def squared_distance(a: Weights, b: Weights) -> Float[Array, ""]:
    """‖a − b‖², without any permutation."""
    return optax.tree.norm(optax.tree.sub(a, b), squared=True)


def _similarity(
    spec: WeightSpec, group: str, known: Mapping[str, Array], reference: Weights, weights: Weights
) -> Float[Array, "n n"]:
    """Inner products of the reference's neurons (rows) with the other network's (columns).

    They are summed over all arrays whose other axes are fixed or permuted by `known`.
    """
    size = spec.groups[group].size
    total = jnp.zeros((size, size))
    for name in spec.arrays:
        labels = spec.labels(name)
        for axis in (a for a, label in labels.items() if label == group):
            others = {a: label for a, label in labels.items() if a != axis}
            if any(g in spec.permutable and g not in known for g in others.values()):
                continue
            array = weights[name]
            for a, label in others.items():
                if label in known:
                    array = jnp.take(array, known[label], a)
            rows = jnp.moveaxis(reference[name], axis, 0).reshape(size, -1)
            columns = jnp.moveaxis(array, axis, 0).reshape(size, -1)
            total = total + rows @ columns.T
    return total
