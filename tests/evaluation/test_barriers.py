"""Barriers against loops over pairs, and planted networks without any."""

import functools
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.table import canonical, weights
from wfm.evaluation import barriers, mean_over_pairs
from wfm.tasks import Split, load_task
from wfm.weights import (
    AsTrained,
    WeightMatching,
    mlp,
    permute,
    random_permutation,
)

SPEC = mlp(4, 5, 4, 3)
FLAT = AsTrained(SPEC).manifold()
TEST = load_task("iris").test
N = 5


def stacked(ws):
    return jax.tree.map(lambda *a: jnp.stack(a), *ws)


@functools.cache
def many():
    return [weights(SPEC, s) for s in range(N)]


def loss(spec, w):
    logits = np.asarray(jax.vmap(lambda x: spec.apply(w, x))(TEST.x), float)
    logits -= logits.max(1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -log_probs[np.arange(len(logits)), np.asarray(TEST.y)].mean()


@pytest.mark.parametrize("times", [(0.5,), (0.25, 0.5, 0.75)])
def test_barriers_on_straight_lines_agree_with_loops(times):
    found = np.asarray(barriers(SPEC, FLAT, stacked(many()), TEST, times))
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 0)
    ends = [loss(SPEC, w) for w in many()]
    for i, j in combinations(range(N), 2):
        excess = [
            loss(SPEC, jax.tree.map(lambda a, b, t=t: (1 - t) * a + t * b, many()[i], many()[j]))
            - (1 - t) * ends[i]
            - t * ends[j]
            for t in times
        ]
        np.testing.assert_allclose(found[i, j], max(excess), atol=1e-5)


@pytest.mark.slow
def test_barriers_on_geodesics_agree_with_loops():
    form = canonical(SPEC)
    points = [form.encode(w) for w in many()]
    m = form.manifold()
    found = barriers(form.spec, m, stacked(points), TEST)
    for i, j in combinations(range(N), 2):
        middle = form.decode(m.geodesic(points[i], points[j], 0.5))
        expected = loss(SPEC, middle) - (loss(SPEC, many()[i]) + loss(SPEC, many()[j])) / 2
        np.testing.assert_allclose(found[i, j], expected, atol=1e-4)


def test_between_permuted_copies_alignment_removes_the_barrier():
    keys = jax.random.split(jax.random.key(0), N)
    copies = stacked([permute(SPEC, random_permutation(SPEC, k), many()[0]) for k in keys])
    assert float(abs(barriers(SPEC, FLAT, copies, TEST)).max()) > 0.01
    after = barriers(SPEC, FLAT, copies, TEST, matching=WeightMatching())
    np.testing.assert_allclose(after, 0, atol=1e-5)


def test_mean_and_error_are_the_jackknifes():
    matrix = np.random.default_rng(0).normal(size=(6, 6))
    matrix = jnp.asarray((matrix + matrix.T) * (1 - np.eye(6)))

    def mean(rows):
        return np.mean([float(matrix[i, j]) for i, j in combinations(rows, 2)])

    without = np.array([mean([i for i in range(6) if i != k]) for k in range(6)])
    found = mean_over_pairs(matrix)
    assert found["mean"] == pytest.approx(mean(range(6)), rel=1e-5)
    expected = (5 / 6 * ((without - without.mean()) ** 2).sum()) ** 0.5
    assert found["error"] == pytest.approx(expected, rel=1e-4)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="give at least two, got 1"):
        barriers(SPEC, FLAT, stacked(many()[:1]), TEST)
    with pytest.raises(ValueError, match="between 0 and 1"):
        barriers(SPEC, FLAT, stacked(many()), TEST, times=(1.5,))
    with pytest.raises(ValueError, match="between 0 and 1"):
        barriers(SPEC, FLAT, stacked(many()), TEST, times=())
    with pytest.raises(ValueError, match="do not fit the network"):
        barriers(SPEC.resize(h1=9), FLAT, stacked(many()), Split(TEST.x, TEST.y))
