"""Permuting and rescaling hidden neurons, and canonical forms, over all networks."""

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import pytest
from hypothesis import given

from tests.cases import cases
from tests.weights.table import (
    CASES,
    NETWORKS,
    canonical,
    encoded,
    function,
    inputs,
    outputs,
    weights,
)
from wfm.weights import (
    canonicalize,
    mix,
    mlp,
    permute,
    random_permutation,
    random_rescaling,
    rescale,
)
from wfm.weights.form import LAST_LAYERS

networks = pytest.mark.parametrize(("spec", "shape"), CASES)
lasts = pytest.mark.parametrize(
    "last", cases({last: last for last in LAST_LAYERS}, often=("sphere", "sphere+scale"))
)
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


@pytest.mark.slow
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
    if last == "sphere":  # one positive factor for all outputs of a network, up to their mean
        before, after = (outputs(s, p, x) for s, p in ((spec, w), (form.spec, point)))
        before = before - before.mean(-1, keepdims=True)
        factor = jnp.linalg.norm(after) / jnp.linalg.norm(before)
        close(after, factor * before, 1e-4)
    else:
        before = function(spec, w, x)
        close(function(form.spec, point, x), before, 1e-4)
        close(function(spec, form.decode(point), x), before, 1e-4)


@networks
@lasts
@given(seeds)
def test_canonical_form_is_blind_to_scale(spec, shape, last, seed):
    w = weights(spec, seed)
    moved = rescale(spec, random_rescaling(spec, jax.random.key(seed)), w)
    form = canonical(spec, last)
    close(encoded(form, moved), encoded(form, w), 1e-4)


@pytest.mark.slow
def test_gradients_of_the_canonical_form_are_finite_at_zero():
    spec = NETWORKS["mlp"][0]
    zero = jax.tree.map(jnp.zeros_like, weights(spec, 0))
    gradient = jax.grad(lambda w: sum(a.sum() for a in canonicalize(spec, w).values()))(zero)
    assert all(jnp.isfinite(a).all() for a in gradient.values())


@pytest.mark.slow
@networks
@given(seeds)
def test_mixing_by_permutation_matrices_permutes(spec, shape, seed):
    w, permutation = weights(spec, seed), random_permutation(spec, jax.random.key(seed))
    matrices = {group: jnp.eye(len(p))[p] for group, p in permutation.items()}
    close(mix(spec, matrices, w), permute(spec, permutation, w), 1e-6)
