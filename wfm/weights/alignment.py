"""Aligning many networks: to a reference, to their barycentre, or each to its own partner."""

import functools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wfm.batching import in_chunks, take_rows
from wfm.checks import all_finite, non_finite_rows, some
from wfm.errors import UserError
from wfm.weights.matching import Matching, WeightMatching, squared_distance
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import Permutation, permute

CHUNK = 128
ROUNDS = 64  # at most, for a barycentre
SETTLED = 1e-4  # squared change of a barycentre, relative to the networks' squared distance
BY_WEIGHTS = WeightMatching()


def align(
    spec: WeightSpec, reference: Weights, weights: Weights, matching: Matching = BY_WEIGHTS
) -> Weights:
    """`weights` with hidden neurons permuted to match `reference`.

    Networks that contain NaN or infinity are refused, here and by the functions for many. Compiled
    code leaves them as they are.
    """
    _check_one("the network", weights)
    _check_one("the reference", reference)
    return _matched(matching, spec, reference, weights)[0]


def align_all(
    spec: WeightSpec,
    reference: Weights,
    weights: Weights,
    matching: Matching = BY_WEIGHTS,
    chunk: int = CHUNK,
) -> tuple[Weights, Permutation]:
    """Align stacked networks to one reference, `chunk` at a time; also return permutations."""
    spec.check(reference)
    _check_many(spec, weights)
    _check_one("the reference", reference)
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
    if rows := non_finite_rows(references):
        raise UserError(f"references {some(rows)} hold NaN or infinity; leave their pairs out")
    return in_chunks(lambda pair: _to_own(matching, spec, *pair), (references, weights), chunk)


def barycentre(
    spec: WeightSpec,
    weights: Weights,
    matching: Matching = BY_WEIGHTS,
    rounds: int = ROUNDS,
    tolerance: float = SETTLED,
) -> Weights:
    """Mean of stacked networks, each permuted to match it: a reference that favours none.

    It starts from the first network and alternates between aligning all to the mean and averaging,
    as in generalised Procrustes analysis (Gower 1975) and `MergeMany` (Ainsworth et al. 2023,
    algorithm 3). Neurons that differ between networks average out, so later rounds match what the
    networks share. It ends when the mean's squared change is below `tolerance` times the networks'
    mean squared distance to it, or after `rounds`.
    """
    _check_many(spec, weights)
    mean = take_rows(weights, 0)
    for _ in range(rounds):
        weights, _ = in_chunks(partial(_to_one, matching, spec, mean), weights, CHUNK)
        mean, change, spread = _mean(weights, mean)
        if change <= tolerance * spread:
            break
    return mean


@jax.jit
def _mean(weights: Weights, before: Weights) -> tuple[Weights, Float[Array, ""], Float[Array, ""]]:
    """The mean of stacked networks, its squared change, and their mean squared distance to it."""
    mean = jax.tree.map(lambda a: a.mean(0), weights)
    spread = jax.vmap(squared_distance, (0, None))(weights, mean).mean()
    return mean, squared_distance(mean, before), spread


def cycle_consistency(
    spec: WeightSpec, weights: Weights, matching: Matching = BY_WEIGHTS
) -> dict[str, Float[Array, " n"]]:
    """Share of each group's neurons that return to themselves on a cycle of three networks.

    For each of the stacked networks, a cycle goes from a neuron to its counterpart in the next
    network, from there to that neuron's counterpart in the one after, and back to the first. All
    neurons return if networks are copies of each other. If networks have nothing in common, one
    neuron in all returns on average.
    """
    _check_many(spec, weights)
    n = len(next(iter(weights.values())))
    if n < 3:
        raise UserError(f"the way goes round three networks; give at least three, got {n}")
    after = [jax.tree.map(lambda a, k=k: jnp.roll(a, -k, 0), weights) for k in range(3)]
    ways = [align_each(spec, after[i], after[(i + 1) % 3], matching)[1] for i in range(3)]
    follow = lambda places, ends: jnp.take_along_axis(ends, places, -1)  # noqa: E731
    homes = jax.tree.map(lambda *ends: functools.reduce(follow, ends), *ways)
    return {
        group: (home == jnp.arange(home.shape[-1])[None]).mean(-1) for group, home in homes.items()
    }


def _check_many(spec: WeightSpec, weights: Weights) -> None:
    spec.check(weights, batch_dims=1)
    if not len(next(iter(weights.values()))):
        raise UserError("no networks to align: the stacked weights are empty")
    if rows := non_finite_rows(weights):
        raise UserError(
            f"{len(rows)} of the networks to align ({some(rows)}) hold NaN or infinity; "
            "leave them out"
        )


def _check_one(what: str, weights: Weights) -> None:
    if not all_finite(weights):
        raise UserError(f"{what} holds NaN or infinity; nothing can be aligned by it")


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
    finite = jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves((reference, weights))])
    permutation = {
        group: jnp.where(finite.all(), p, jnp.arange(len(p), dtype=p.dtype))
        for group, p in permutation.items()
    }
    return permute(spec, permutation, weights), permutation
