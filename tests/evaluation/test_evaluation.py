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
    ensemble_accuracy,
    evaluate,
    median_ratio,
    predictions,
    ratio_error,
    smallest_disagreement,
    with_noise,
)
from wfm.tasks import load_task
from wfm.weights import (
    AsTrained,
    align,
    mlp,
    permute,
    random_permutation,
    random_rescaling,
    rescale,
)

SPEC = mlp(4, 3, 3, 3)
FORM = canonical(SPEC)


def stacked(seeds):
    return jax.tree.map(lambda *a: jnp.stack(a), *(weights(SPEC, s) for s in seeds))


@pytest.fixture(scope="module")
def nearest():
    return Nearest(FORM, FORM.encode(weights(SPEC, 50)), stacked(range(12)))


@pytest.mark.slow
def test_symmetric_copies_are_not_new(nearest):
    def copy(key, w):
        a, b = jax.random.split(key)
        return permute(
            SPEC, random_permutation(SPEC, a), rescale(SPEC, random_rescaling(SPEC, b), w)
        )

    copies = jax.vmap(copy)(jax.random.split(jax.random.key(5), 12), stacked(range(12)))
    np.testing.assert_allclose(nearest.distances(copies), 0, atol=1e-3)


@pytest.mark.slow
def test_copies_with_other_logits_of_the_same_probabilities_are_not_new(nearest):
    w, key = stacked(range(12)), jax.random.key(6)
    shift = jax.random.normal(key, (12, 3, 1))  # of all outputs, by each neuron of the last layer
    copies = w | {"dense3.kernel": w["dense3.kernel"] + shift, "dense3.bias": w["dense3.bias"] + 2}
    # What rounding leaves, of distances between others of about 4.
    np.testing.assert_allclose(nearest.distances(copies), 0, atol=1e-5)


@pytest.mark.slow
def test_copies_among_hundreds_have_no_distance_and_neighbours_theirs():
    """Exact copies 0, symmetric ones what rounding leaves; near ones to 0.1% down to 1e-6."""
    n, few = 300, np.arange(0, 300, 30)
    zoo = jax.jit(jax.vmap(AsTrained(SPEC).prior(0.5).sample))(
        jax.random.split(jax.random.key(1), n)
    )
    some = jax.tree.map(lambda a: a[few], zoo)
    among = Nearest(FORM, FORM.encode(weights(SPEC, 50)), zoo, candidates=4)
    np.testing.assert_array_equal(among.distances(some), 0)

    def copy(key, w):
        a, b = jax.random.split(key)
        scaled = rescale(SPEC, random_rescaling(SPEC, b), w)
        return permute(SPEC, random_permutation(SPEC, a), scaled)

    copies = jax.vmap(copy)(jax.random.split(jax.random.key(2), len(few)), some)
    np.testing.assert_allclose(among.distances(copies), 0, atol=1e-5)

    flat = AsTrained(SPEC)
    zeroed = zoo | {"dense1.bias": 0 * zoo["dense1.bias"]}
    with pytest.warns(UserWarning, match="only upper bounds .* the form keeps the rescaling"):
        among = Nearest(flat, flat.encode(weights(SPEC, 50)), zeroed, candidates=4)
    some = jax.tree.map(lambda a: a[few], zeroed)
    for size in (1e-2, 1e-4, 1e-6):
        moved = some | {"dense1.bias": some["dense1.bias"].at[:, 1].set(size)}
        np.testing.assert_allclose(among.distances(moved), size, rtol=1e-3)


@pytest.mark.slow
def test_more_candidates_miss_less_and_the_excess_says_how_much(nearest):
    others = stacked(range(100, 106))
    exact = np.asarray(nearest.distances(others))  # 12 networks are fewer than the candidates
    np.testing.assert_array_equal(nearest.excess(others), 0)
    two = Nearest(FORM, nearest.reference, stacked(range(12)), candidates=2)
    found = np.asarray(two.distances(others))
    assert (found >= exact).all()
    assert (found > exact).any()
    np.testing.assert_allclose(two.excess(others), found / exact - 1, atol=1e-6)
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        Nearest(FORM, nearest.reference, others, candidates=0)


@pytest.mark.slow
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


@pytest.mark.slow
def test_baselines_lie_where_they_should(nearest):
    training = stacked(range(12))
    noisy = nearest.distances(with_noise(training, jax.random.key(0), 0.01))
    noisier = nearest.distances(with_noise(training, jax.random.key(0), 0.1))
    far = nearest.distances(stacked(range(100, 112)))
    averaged = nearest.distances(averaged_pairs(FORM, training, jax.random.key(1)))
    assert 0 < jnp.median(noisy) < jnp.median(noisier) < jnp.median(averaged) < jnp.median(far)


@pytest.mark.slow
def test_averages_lie_half_way():
    form, training = FORM, stacked([0, 1])
    middle = averaged_pairs(form, training, jax.random.key(1))
    a = form.encode(jax.tree.map(lambda x: x[0], training))
    m = form.encode(jax.tree.map(lambda x: x[0], middle))
    one, other = (jax.tree.map(lambda x, i=i: x[i : i + 1], training) for i in (0, 1))
    whole = Nearest(form, a, other).distances(one)
    np.testing.assert_allclose(form.manifold().dist(a, m), whole[0] / 2, rtol=1e-3)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_error_of_a_ratio_is_the_bootstraps_over_trajectories():
    rng = np.random.default_rng(0)
    trajectory = np.repeat(np.arange(12), 5) * 3  # numbers may have gaps
    top, bottom = rng.normal(1, 0.1, 40), np.repeat(rng.normal(1, 0.1, 12), 5)
    draws = []
    for _ in range(4000):
        chosen = rng.integers(0, 12, 12)
        below = np.concatenate([bottom[trajectory == 3 * i] for i in chosen])
        draws.append(np.median(rng.choice(top, 40)) / np.median(below))
    found = ratio_error(*map(jnp.asarray, (top, bottom, trajectory)), jax.random.key(0))
    # Standard deviations of 1000 and of 4000 draws: each off by one in √(2 · draws), tails apart.
    assert found == pytest.approx(np.std(draws, ddof=1), rel=0.15)
    # Snapshots that are copies of each other count once: as if there were one of each.
    single = ratio_error(*map(jnp.asarray, (top, bottom[::5], trajectory[::5])), jax.random.key(0))
    assert found == pytest.approx(single, rel=1e-3)
    assert np.isnan(ratio_error(jnp.ones(3), jnp.ones(2), jnp.zeros(2, int), jax.random.key(0)))


def test_an_ensemble_averages_probabilities():
    test, many = load_task("iris").test, stacked(range(5))
    p = np.stack(
        [
            np.asarray(jax.nn.softmax(SPEC.outputs(w, test.x)))
            for w in map(weights, [SPEC] * 5, range(5))
        ]
    )
    expected = (p.astype(float).mean(0).argmax(1) == np.asarray(test.y)).mean()
    assert ensemble_accuracy(SPEC, many, test) == pytest.approx(expected)
