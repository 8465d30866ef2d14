"""Aligning many networks: to a reference, to their barycentre, or each to a partner."""

from functools import partial

import equinox as eqx
import jax

from wfm.weights.chunks import in_chunks
from wfm.weights.matching import Matching, WeightMatching
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import Permutation, permute

CHUNK = 128
BY_WEIGHTS = WeightMatching()


def align(
    spec: WeightSpec, reference: Weights, weights: Weights, matching: Matching = BY_WEIGHTS
) -> Weights:
    """`weights` with hidden neurons permuted to match `reference`."""
    return permute(spec, matching(spec, reference, weights), weights)


def align_all(
    spec: WeightSpec,
    reference: Weights,
    weights: Weights,
    matching: Matching = BY_WEIGHTS,
    chunk: int = CHUNK,
) -> tuple[Weights, Permutation]:
    """Align stacked networks to one reference, `chunk` at a time; also their permutations."""
    spec.check(reference)
    _check_many(spec, weights)
    return in_chunks(partial(_to_one, matching, spec, reference), weights, chunk)


def align_each(
    spec: WeightSpec,
    references: Weights,
    weights: Weights,
    matching: Matching = BY_WEIGHTS,
    chunk: int = CHUNK,
) -> tuple[Weights, Permutation]:
    """Align each of the stacked networks to its own partner among the stacked `references`."""
    spec.check(references, batch_dims=1)
    _check_many(spec, weights)
    return in_chunks(lambda pair: _to_own(matching, spec, *pair), (references, weights), chunk)


def barycentre(
    spec: WeightSpec, weights: Weights, matching: Matching = BY_WEIGHTS, rounds: int = 8
) -> Weights:
    """Mean of stacked networks, each permuted to match it: a reference that favours none of them.

    Starts from the first network and alternates between aligning all to the mean and averaging,
    as in generalised Procrustes analysis (Gower 1975) and `MergeMany` (Ainsworth et al. 2023,
    algorithm 3). Neurons that differ between networks average out, so that later rounds match by
    what the networks share.
    """
    _check_many(spec, weights)
    mean = jax.tree.map(lambda a: a[0], weights)
    for _ in range(rounds):
        weights, _ = align_all(spec, mean, weights, matching)
        mean = jax.tree.map(lambda a: a.mean(0), weights)
    return mean


def _check_many(spec: WeightSpec, weights: Weights) -> None:
    spec.check(weights, batch_dims=1)
    if not len(next(iter(weights.values()))):
        raise ValueError("no networks to align: the stacked weights are empty")


@eqx.filter_jit
def _to_one(
    matching: Matching, spec: WeightSpec, reference: Weights, weights: Weights
) -> tuple[Weights, Permutation]:
    return jax.vmap(lambda w: _matched(matching, spec, reference, w))(weights)


@eqx.filter_jit
def _to_own(
    matching: Matching, spec: WeightSpec, references: Weights, weights: Weights
) -> tuple[Weights, Permutation]:
    return jax.vmap(partial(_matched, matching, spec))(references, weights)


def _matched(
    matching: Matching, spec: WeightSpec, reference: Weights, weights: Weights
) -> tuple[Weights, Permutation]:
    permutation = matching(spec, reference, weights)
    return permute(spec, permutation, weights), permutation
