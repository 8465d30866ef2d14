"""Alignment of a network to a reference by weight matching (Git Re-Basin)."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from optax.assignment import hungarian_algorithm

from wfm.weights.chunks import in_chunks
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import Permutation, permute


def best_assignment(similarity: Float[Array, "n n"]) -> Int[Array, " n"]:
    """The permutation π that maximises Σᵢ similarity[i, π(i)]."""
    rows, columns = hungarian_algorithm(-similarity)
    return jnp.zeros(len(similarity), columns.dtype).at[rows].set(columns)


def _similarity(
    spec: WeightSpec,
    group: str,
    known: Mapping[str, Array],
    reference: Weights,
    weights: Weights,
) -> Float[Array, "n n"]:
    """Inner products of the reference's neurons (rows) with the other network's (columns).

    Sums over all arrays whose other axes are fixed or permuted by `known`.
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


def match(
    spec: WeightSpec, reference: Weights, weights: Weights, max_sweeps: int = 50
) -> Permutation:
    """Permutation of `weights` that brings it close to `reference`: ‖reference − π(weights)‖ → min.

    Coordinate descent over the groups, one linear assignment each, until nothing changes
    (Ainsworth, Hayase & Srinivasa 2023, algorithm 1). Instead of at a random permutation it
    starts by matching group after group on those arrays alone whose other ends are known already.
    That start, hence the result, does not depend on the order in which the neurons of `weights`
    come, unless an assignment has a tie.
    """
    permutation: Permutation = {}
    for group in spec.permutable:
        similarity = _similarity(spec, group, permutation, reference, weights)
        permutation[group] = best_assignment(similarity)

    def sweep(state):
        count, current, _ = state
        new = dict(current)
        for group in spec.permutable:
            new[group] = best_assignment(_similarity(spec, group, new, reference, weights))
        changed = [jnp.any(new[g] != current[g]) for g in spec.permutable]
        return count + 1, new, jnp.any(jnp.array(changed))

    if len(spec.permutable) < 2:  # one assignment is exact
        return permutation
    state = jax.lax.while_loop(
        lambda state: state[2] & (state[0] < max_sweeps), sweep, (0, permutation, True)
    )
    return state[1]


def align(spec: WeightSpec, reference: Weights, weights: Weights) -> Weights:
    """`weights` with hidden neurons permuted to match `reference`; see `match`."""
    return permute(spec, match(spec, reference, weights), weights)


def align_all(
    spec: WeightSpec, reference: Weights, weights: Weights, chunk: int = 128
) -> tuple[Weights, Permutation]:
    """Align stacked networks to one reference, `chunk` at a time; also their permutations."""
    spec.check(reference)
    spec.check(weights, batch_dims=1)
    return in_chunks(partial(_align_chunk, spec, reference), weights, chunk)


def barycentre(spec: WeightSpec, weights: Weights, rounds: int = 8) -> Weights:
    """Mean of stacked networks, each permuted to match it: a reference that favours none of them.

    Starts from the first network and alternates between aligning all to the mean and averaging,
    as in generalised Procrustes analysis (Gower 1975) and `MergeMany` (Ainsworth et al. 2023,
    algorithm 3). Neurons that differ between networks average out, so that later rounds match by
    what the networks share.
    """
    mean = jax.tree.map(lambda a: a[0], weights)
    for _ in range(rounds):
        weights, _ = align_all(spec, mean, weights)
        mean = jax.tree.map(lambda a: a.mean(0), weights)
    return mean


@partial(jax.jit, static_argnums=0)
def _align_chunk(
    spec: WeightSpec, reference: Weights, weights: Weights
) -> tuple[Weights, Permutation]:
    permutations = jax.vmap(partial(match, spec, reference))(weights)
    return jax.vmap(partial(permute, spec))(permutations, weights), permutations
