"""Quality and novelty, against brute force and planted answers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.table import canonical, weights
from wfm.evaluation import (
    Nearest,
    averaged_pairs,
    crossed_pairs,
    evaluate,
    median_ratio,
    predictions,
    smallest_disagreement,
    with_noise,
)
from wfm.tasks import load_task
from wfm.weights import align, mlp, permute, random_permutation, random_rescaling, rescale

SPEC = mlp(4, 3, 3, 3)
FORM = canonical(SPEC)


def stacked(seeds):
    return jax.tree.map(lambda *a: jnp.stack(a), *(weights(SPEC, s) for s in seeds))


@pytest.fixture(scope="module")
def nearest():
    return Nearest(FORM, FORM.encode(weights(SPEC, 50)), stacked(range(12)))


def test_symmetric_copies_are_not_new(nearest):
    def copy(key, w):
        a, b = jax.random.split(key)
        return permute(
            SPEC, random_permutation(SPEC, a), rescale(SPEC, random_rescaling(SPEC, b), w)
        )

    copies = jax.vmap(copy)(jax.random.split(jax.random.key(5), 12), stacked(range(12)))
    np.testing.assert_allclose(nearest.distances(copies), 0, atol=1e-3)


def test_copies_with_other_logits_of_the_same_probabilities_are_not_new(nearest):
    w, key = stacked(range(12)), jax.random.key(6)
    shift = jax.random.normal(key, (12, 3, 1))  # of all outputs, by each neuron of the last layer
    copies = w | {"dense3.kernel": w["dense3.kernel"] + shift, "dense3.bias": w["dense3.bias"] + 2}
    far = nearest.distances(stacked(range(100, 112)))
    assert nearest.distances(copies).max() < 1e-6 * far.min()


def test_distances_are_close_to_brute_force_over_all_permutations(nearest):
    others = stacked(range(100, 106))
    found = np.asarray(nearest.distances(others))
    groups = list(itertools.product(itertools.permutations(range(3)), repeat=2))
    codes = {"h1": jnp.array([g[0] for g in groups]), "h2": jnp.array([g[1] for g in groups])}
    manifold = FORM.manifold()

    def smallest(a, b):
        moved = jax.vmap(lambda p: permute(FORM.spec, p, b))(codes)
        return jax.vmap(lambda m: manifold.dist(a, m))(moved).min()

    encode = jax.vmap(FORM.encode)
    training, points = encode(stacked(range(12))), encode(others)
    exact = jax.jit(jax.vmap(lambda a: jax.vmap(lambda b: smallest(a, b))(training).min()))(points)
    assert (found >= np.asarray(exact) - 1e-4).all()
    # Weight matching finds a local optimum, of which few are far from the best.
    assert np.median(found / exact) < 1.1


def test_baselines_lie_where_they_should(nearest):
    training = stacked(range(12))
    noisy = nearest.distances(with_noise(training, jax.random.key(0), 0.01))
    noisier = nearest.distances(with_noise(training, jax.random.key(0), 0.1))
    far = nearest.distances(stacked(range(100, 112)))
    averaged = nearest.distances(averaged_pairs(FORM, training, jax.random.key(1)))
    assert 0 < jnp.median(noisy) < jnp.median(noisier) < jnp.median(averaged) < jnp.median(far)


def test_averages_lie_half_way():
    form, training = FORM, stacked([0, 1])
    middle = averaged_pairs(form, training, jax.random.key(1))
    a = form.encode(jax.tree.map(lambda x: x[0], training))
    m = form.encode(jax.tree.map(lambda x: x[0], middle))
    one, other = (jax.tree.map(lambda x, i=i: x[i : i + 1], training) for i in (0, 1))
    whole = Nearest(form, a, other).distances(one)
    np.testing.assert_allclose(form.manifold().dist(a, m), whole[0] / 2, rtol=1e-3)


def test_crossed_networks_have_whole_neurons_of_both_parents():
    training, keys = stacked([0, 1]), jax.random.split(jax.random.key(1), 32)
    both = jax.vmap(lambda key: crossed_pairs(FORM, training, key))(keys)
    children = jax.vmap(FORM.encode)(jax.tree.map(lambda x: x[:, 0], both))
    a, b = (FORM.encode(jax.tree.map(lambda x, i=i: x[i], training)) for i in (0, 1))
    b = align(FORM.spec, a, b)
    first = next(iter(FORM.spec.arrays))
    of_a, of_b = (np.isclose(children[first], p[first], atol=1e-5).all(1) for p in (a, b))
    assert (of_a ^ of_b).all()
    assert of_a.any(0).all()
    assert of_b.any(0).all()


def test_evaluation_agrees_with_one_network_at_a_time():
    task = load_task("iris")
    many = stacked(range(5))
    metrics, classes = evaluate(SPEC, many, task.test), predictions(SPEC, many, task.test.x)
    for i in range(5):
        w = jax.tree.map(lambda a, i=i: a[i], many)
        logits = np.asarray(jax.vmap(lambda x, w=w: SPEC.apply(w, x))(task.test.x))
        assert (classes[i] == logits.argmax(1)).all()
        np.testing.assert_allclose(metrics["accuracy"][i], (logits.argmax(1) == task.test.y).mean())


def test_disagreement_and_ratio():
    known = jnp.array([[0, 0, 0, 0], [1, 1, 1, 1]])
    classes = jnp.array([[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]])
    np.testing.assert_allclose(smallest_disagreement(classes, known), [0.25, 0, 0.5])
    assert median_ratio(jnp.array([1.0, 2.0, 9.0]), jnp.array([4.0])) == 0.5
    assert np.isnan(median_ratio(jnp.ones(1), jnp.zeros(1)))
