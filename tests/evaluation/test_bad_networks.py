"""Networks that are not numbers: named, without figures, and no trouble to the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.table import canonical, weights
from wfm.evaluation import (
    Nearest,
    barriers,
    calibration,
    divergences,
    evaluate,
    mean_over_pairs,
    median_ratio,
    model_averages,
    predictions,
    probabilities,
    smallest_disagreement,
)
from wfm.tasks import load_task
from wfm.weights import AsTrained, WeightMatching, mlp

SPEC = mlp(4, 3, 3, 3)
FORM = canonical(SPEC)
TEST = load_task("iris").test
RNG = np.random.default_rng(0)
# Made by numpy, so that nothing is compiled while tests are collected.
GOOD = {n: RNG.normal(0, 0.5, (4, *SPEC.shape(n))).astype(np.float32) for n in SPEC.arrays}
BAD = {name: a.copy() for name, a in GOOD.items()}
for array in BAD.values():
    array[2] = np.nan
NONE = GOOD | {"dense1.kernel": GOOD["dense1.kernel"].copy()}
NONE["dense1.kernel"][2, 0, 0] = np.nan
GOOD, BAD, NONE = jax.tree.map(jnp.asarray, (GOOD, BAD, NONE))
REST = np.array([0, 1, 3])


def of_rest(stacked):
    return jax.tree.map(lambda a: a[REST], stacked)


@pytest.mark.parametrize("bad", [BAD, NONE], ids=["all", "one weight"])
@pytest.mark.parametrize("measure", [evaluate, probabilities, predictions])
def test_figures_of_networks(bad, measure):
    data = TEST if measure is evaluate else TEST.x
    with pytest.warns(UserWarning, match=r"1 of 4 networks' outputs \(2\) hold NaN or infinity"):
        found = measure(SPEC, bad, data)
    expected = measure(SPEC, GOOD, data)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a[REST], b[REST])
        assert (a[2] == -1).all() if measure is predictions else jnp.isnan(a[2]).all()


def test_figures_of_probabilities():
    good = probabilities(SPEC, GOOD, TEST.x)
    p = good.at[2].set(jnp.nan)
    warned = r"1 of 4 networks' probabilities \(2\) hold"
    with pytest.warns(UserWarning, match=warned + ".*left out of averages"):
        averages = model_averages(p)
    np.testing.assert_allclose(averages[REST], model_averages(good[REST]), rtol=1e-6)
    np.testing.assert_allclose(averages[2], averages[1])
    with pytest.warns(UserWarning, match="left out"):
        assert jnp.isnan(model_averages(p[2:])[0]).all()
    with pytest.warns(UserWarning, match=warned):
        found = divergences(p)
    assert jnp.isnan(found[2]).all()
    np.testing.assert_allclose(of_rest(found)[:, REST], divergences(good[REST]))
    with pytest.warns(UserWarning, match=r"networks' figures \(2\) .*left out of the mean"):
        assert mean_over_pairs(found) == pytest.approx(mean_over_pairs(divergences(good[REST])))
    with pytest.warns(UserWarning, match="its figures are NaN"):
        assert all(jnp.isnan(v) for v in calibration(p[2], TEST.y).values())


@pytest.mark.slow
def test_novelty():
    nearest = Nearest(FORM, FORM.encode(weights(SPEC, 50)), GOOD)
    with pytest.warns(UserWarning, match=r"1 of 4 networks \(2\) .*distances are NaN"):
        found = nearest.distances(NONE)
    assert jnp.isnan(found[2])
    np.testing.assert_array_equal(found[REST], 0)
    with pytest.warns(UserWarning, match=r"1 of 4 training networks \(2\) .*nobody's nearest"):
        fewer = Nearest(FORM, nearest.reference, NONE)
    distance = fewer.distances(GOOD)
    np.testing.assert_array_equal(distance[REST], 0)
    only = Nearest(FORM, nearest.reference, of_rest(GOOD))
    np.testing.assert_allclose(distance[2], only.distances(GOOD)[2], rtol=1e-6)
    with pytest.warns(UserWarning, match="left out of the median"):
        assert median_ratio(found + 1, jnp.ones(3)) == 1


def test_disagreement():
    known = jnp.array([[0, 0, 0, 0], [-1, -1, -1, -1]])
    classes = jnp.array([[0, 0, 0, 1], [-1, -1, -1, -1]])
    with pytest.warns(UserWarning, match=r"\(1\) .*left out"):
        found = smallest_disagreement(classes, known)
    np.testing.assert_array_equal(found, [0.25, np.nan])
    with pytest.warns(UserWarning, match="left out"):
        assert jnp.isnan(smallest_disagreement(classes[:1], known[1:])).all()


@pytest.mark.parametrize("matching", [None, WeightMatching()])
def test_barriers_of_networks(matching):
    flat = AsTrained(SPEC).manifold()
    with pytest.warns(UserWarning, match=r"1 of 4 networks \(2\) .*barriers are NaN"):
        found = barriers(SPEC, flat, NONE, TEST, matching=matching)
    assert jnp.isnan(found[2]).all()
    expected = barriers(SPEC, flat, GOOD, TEST, matching=matching)
    np.testing.assert_allclose(found[REST][:, REST], expected[REST][:, REST], atol=1e-6)
