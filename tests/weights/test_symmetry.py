"""Permuting and rescaling hidden neurons, canonical forms and alignment, over all networks."""

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import linear_sum_assignment

from tests.weights.table import NETWORKS, aligned, canonical, encoded, inputs, outputs, weights
from wfm.weights import (
    AsTrained,
    align_all,
    barycentre,
    canonicalize,
    match,
    mlp,
    permute,
    random_permutation,
    random_rescaling,
    rescale,
)
from wfm.weights.form import LAST_LAYERS
from wfm.weights.matching import best_assignment

networks = pytest.mark.parametrize(("spec", "shape"), NETWORKS.values(), ids=NETWORKS)
lasts = pytest.mark.parametrize("last", LAST_LAYERS)
seeds = st.integers(0, 10_000)


def close(a, b, tolerance=2e-5):
    chex.assert_trees_all_close(a, b, rtol=tolerance, atol=tolerance)


@networks
@given(seeds)
def test_permutation_keeps_the_function(spec, shape, seed):
    w, x = weights(spec, seed), inputs(shape)
    permuted = permute(spec, random_permutation(spec, jax.random.key(seed)), w)
    close(outputs(spec, permuted, x), outputs(spec, w, x))
    assert not spec.permutable or any((permuted[n] != w[n]).any() for n in w)


@networks
@given(seeds)
def test_rescaling_keeps_the_function(spec, shape, seed):
    w, x = weights(spec, seed), inputs(shape)
    close(
        outputs(spec, rescale(spec, random_rescaling(spec, jax.random.key(seed)), w), x),
        outputs(spec, w, x),
        1e-4,
    )


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=5), st.sampled_from(["relu", "tanh"]), seeds
)
def test_actions_on_random_mlps(widths, activation, seed):
    spec = mlp(*widths, activation=activation)
    w, x, key = weights(spec, seed), inputs((widths[0],)), jax.random.key(seed)
    moved = rescale(
        spec, random_rescaling(spec, key), permute(spec, random_permutation(spec, key), w)
    )
    close(outputs(spec, moved, x), outputs(spec, w, x), 1e-4)


def test_rescaling_acts_as_the_formula_says():
    spec, alpha = mlp(2, 3, 2), jnp.array([2.0, 0.5, 4.0])
    w = weights(spec, 0)
    moved = rescale(spec, {"h1": alpha}, w)
    close(moved["dense1.kernel"], w["dense1.kernel"] * alpha[None])
    close(moved["dense1.bias"], w["dense1.bias"] * alpha)
    close(moved["dense2.kernel"], w["dense2.kernel"] / alpha[:, None])


@networks
@lasts
@given(seeds)
def test_canonical_form_lies_on_its_manifold_and_keeps_what_it_claims(spec, shape, last, seed):
    form, w, x = canonical(spec, last), weights(spec, seed), inputs(shape)
    point = encoded(form, w)
    close(form.manifold().project(point), point)
    form.spec.check(point)
    before, after = outputs(spec, w, x), outputs(form.spec, point, x)
    if last == "sphere":  # one positive factor for all outputs of a network
        factor = jnp.linalg.norm(after) / jnp.linalg.norm(before)
        close(after, factor * before, 1e-4)
    else:
        close(after, before, 1e-4)
        close(outputs(spec, form.decode(point), x), before, 1e-4)


@networks
@lasts
@given(seeds)
def test_canonical_form_is_blind_to_scale(spec, shape, last, seed):
    w = weights(spec, seed)
    moved = rescale(spec, random_rescaling(spec, jax.random.key(seed)), w)
    form = canonical(spec, last)
    close(encoded(form, moved), encoded(form, w), 1e-4)


@networks
@given(seeds)
def test_canonicalised_alignment_undoes_both_symmetries(spec, shape, seed):
    form, w, key = canonical(spec), weights(spec, seed), jax.random.key(seed)
    moved = permute(
        spec, random_permutation(spec, key), rescale(spec, random_rescaling(spec, key), w)
    )
    reference = encoded(form, weights(spec, seed + 1))
    once = aligned(form.spec, reference, encoded(form, w))
    close(aligned(form.spec, reference, encoded(form, moved)), once, 1e-4)


@networks
@given(seeds)
def test_alignment_recovers_a_planted_permutation(spec, shape, seed):
    w = weights(spec, seed)
    moved = permute(spec, random_permutation(spec, jax.random.key(seed)), w)
    chex.assert_trees_all_equal(aligned(spec, w, moved), w)


def test_every_sweep_of_matching_is_needed_and_lowers_the_distance():
    spec = NETWORKS["deep"][0]

    def distance(a, b):
        return sum(float(((a[n] - b[n]) ** 2).sum()) for n in a)

    first = jax.jit(lambda a, b: permute(spec, match(spec, a, b, max_sweeps=0), b))
    gains = []
    for seed in range(20):
        a, b = weights(spec, seed), weights(spec, seed + 100)
        start, end = first(a, b), aligned(spec, a, b)
        assert distance(a, end) <= distance(a, start) + 1e-4
        assert distance(a, end) < distance(a, b)
        gains.append(distance(a, start) - distance(a, end))
    assert max(gains) > 0.1


@given(st.sampled_from([1, 2, 16, 30]), seeds)
def test_assignment_is_as_good_as_scipys(n, seed):
    similarity = np.random.default_rng(seed).normal(size=(n, n)).astype(np.float32)
    ours = jax.jit(best_assignment)(jnp.asarray(similarity))
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    assert sorted(ours.tolist()) == list(range(n))
    np.testing.assert_allclose(
        similarity[np.arange(n), ours].sum(), similarity[rows, columns].sum(), rtol=1e-5
    )


@pytest.mark.parametrize("n", [1, 5, 7])
def test_aligning_many_equals_aligning_each(n):
    spec = NETWORKS["mlp"][0]
    reference = weights(spec, 0)
    each = [weights(spec, i + 1) for i in range(n)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *each)
    all_aligned, permutations = align_all(spec, reference, stacked, chunk=3)
    for i, w in enumerate(each):
        own = jax.tree.map(lambda a, i=i: a[i], permutations)
        close(jax.tree.map(lambda a, i=i: a[i], all_aligned), aligned(spec, reference, w))
        close(permute(spec, own, w), aligned(spec, reference, w))


def test_gradients_of_the_canonical_form_are_finite_at_zero():
    spec = NETWORKS["mlp"][0]
    zero = jax.tree.map(jnp.zeros_like, weights(spec, 0))
    gradient = jax.grad(lambda w: sum(a.sum() for a in canonicalize(spec, w).values()))(zero)
    assert all(jnp.isfinite(a).all() for a in gradient.values())


def test_barycentre_undoes_hidden_permutations_and_lies_amid_the_networks():
    """Noisy permuted copies of one network: the mean is that network, up to a permutation."""
    spec, n, noise = NETWORKS["mlp"][0], 30, 0.1
    centre = weights(spec, 0)

    def copy(key):
        keys = jax.random.split(key)
        moved = permute(spec, random_permutation(spec, keys[0]), centre)
        draws = AsTrained(spec).manifold(noise).random(keys[1])
        return jax.tree.map(jnp.add, moved, draws)

    copies = jax.vmap(copy)(jax.random.split(jax.random.key(1), n))
    found = aligned(spec, centre, barycentre(spec, copies))
    # Standard error of each entry: noise / sqrt(n).
    chex.assert_trees_all_close(found, centre, atol=5 * noise / n**0.5)


def test_barycentre_is_nearer_to_all_than_any_network_is():
    spec = NETWORKS["mlp"][0]
    many = jax.vmap(lambda k: AsTrained(spec).manifold(0.5).random(k))(
        jax.random.split(jax.random.key(0), 20)
    )

    def spread(reference):
        moved, _ = align_all(spec, reference, many)
        return sum(float(a.var(0).sum()) for a in moved.values())

    best = min(spread(jax.tree.map(lambda a, i=i: a[i], many)) for i in range(20))
    assert spread(barycentre(spec, many)) < best
