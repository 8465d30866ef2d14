"""Averages, divergences and calibration of predictions, against scipy and scikit-learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import gaussian_kde
from sklearn.metrics import brier_score_loss, log_loss

from tests.weights.table import weights
from wfm.evaluation import (
    calibration,
    divergences,
    kernel_divergences,
    model_averages,
    probabilities,
)
from wfm.evaluation.calibration import BINS
from wfm.evaluation.predictive import GRID
from wfm.weights import mlp

SPEC = mlp(4, 3, 3)


def random_probabilities(*shape, seed=0, sharpness=2.0):
    logits = sharpness * np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), jnp.float32)


def test_probabilities_are_those_of_each_network():
    many = jax.tree.map(lambda *a: jnp.stack(a), *(weights(SPEC, s) for s in range(5)))
    x = jax.random.normal(jax.random.key(0), (7, 4))
    p = probabilities(SPEC, many, x)
    assert p.shape == (5, 7, 3)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
    one = jax.tree.map(lambda a: a[3], many)
    logits = np.asarray(jax.vmap(lambda x: SPEC.apply(one, x))(x))
    np.testing.assert_allclose(
        p[3], np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-5
    )


def test_averages_of_the_first_networks():
    p = random_probabilities(6, 5, 3)
    averages = model_averages(p)
    for k in range(6):
        np.testing.assert_allclose(averages[k], np.asarray(p)[: k + 1].mean(0), rtol=1e-5)


def test_divergences_agree_with_scipy():
    p = random_probabilities(4, 6, 3)
    found = divergences(p)
    for i, j in itertools.product(range(4), repeat=2):
        exact = np.mean(jensenshannon(np.float64(p[i]), np.float64(p[j]), axis=1) ** 2)
        np.testing.assert_allclose(found[i, j], exact, atol=2e-6)


def test_divergences_of_nearly_equal_distributions():
    """Down to 1e-12, against relative entropies in double precision."""
    p = np.asarray(random_probabilities(1, 40, 5, sharpness=3.0)[0])
    way = np.random.default_rng(1).normal(size=p.shape)
    for size in (1e-5, 1e-3, 0.1, 1.0):
        q = np.float32(p * np.exp(size * way))
        a, b = (np.float64(x) for x in (p, q))
        exact = ((rel_entr(a, (a + b) / 2) + rel_entr(b, (a + b) / 2)).sum(1) / 2).mean()
        found = float(divergences(jnp.stack([p, q]))[0, 1])
        # Rounded probabilities do not quite sum to 1, which relative entropies see to first order.
        exact -= (a.sum(1) + b.sum(1) - (a + b).sum(1)).mean() / 2
        assert found == pytest.approx(exact, rel=1e-2)
        assert size > 1e-5 or exact < 1e-10


def test_divergences_reach_their_bounds():
    sure = jnp.eye(2)[:, None, :].repeat(3, 1)  # two networks, sure of different classes
    np.testing.assert_allclose(divergences(sure), np.log(2) * (1 - np.eye(2)), atol=1e-6)


def test_kernel_divergences_agree_with_scipy():
    p = jnp.stack([random_probabilities(300, 3, seed=s, sharpness=1 + s) for s in range(3)])
    found, grid = kernel_divergences(p), np.linspace(0, 1, GRID)
    density = [[gaussian_kde(np.float64(c))(grid) for c in q.T] for q in p]
    for i, j in itertools.product(range(3), repeat=2):
        exact = np.mean(jensenshannon(density[i], density[j], axis=1) ** 2)
        np.testing.assert_allclose(found[i, j], exact, atol=2e-6)
    assert found[0, 2] > 0.01


def test_kernel_divergences_see_values_and_not_inputs():
    p = random_probabilities(1, 50, 3)
    shuffled = jnp.concatenate([p, p[:, ::-1]])
    np.testing.assert_allclose(kernel_divergences(shuffled), 0, atol=2e-6)
    sure = jnp.eye(2)[:, None, :].repeat(3, 1)  # constant outputs, without any spread
    np.testing.assert_allclose(kernel_divergences(sure), np.log(2) * (1 - np.eye(2)), atol=1e-4)


@pytest.mark.parametrize("sharpness", [0.3, 2.0, 4.0])
def test_calibration_agrees_with_scikit_learn(sharpness):
    p = random_probabilities(400, 4, seed=1, sharpness=sharpness)
    labels = np.random.default_rng(2).integers(0, 4, 400)
    found = calibration(p, jnp.asarray(labels))
    exact = np.float64(p) / np.float64(p).sum(1, keepdims=True)
    np.testing.assert_allclose(found["nll"], log_loss(labels, exact, labels=range(4)), rtol=1e-4)
    brier = sum(brier_score_loss(labels == c, exact[:, c]) for c in range(4))
    np.testing.assert_allclose(found["brier"], brier, rtol=1e-4)
    np.testing.assert_allclose(found["accuracy"], (exact.argmax(1) == labels).mean(), rtol=1e-6)
    confidence, hits = exact.max(1), exact.argmax(1) == labels
    error = 0.0
    for low, high in itertools.pairwise(np.linspace(0, 1, BINS + 1)):
        inside = (low < confidence) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
    np.testing.assert_allclose(found["ece"], error, atol=1e-5)


def test_what_is_drawn_as_predicted_is_calibrated():
    """Labels drawn from the predictions themselves: the error is that of sampling alone."""
    m = 20_000
    p = random_probabilities(m, 3, seed=3)
    labels = jax.random.categorical(jax.random.key(0), jnp.log(p))
    # Each bin's gap has a standard deviation below sqrt(|B|)/2, and these sum to sqrt(BINS·m)/2.
    assert float(calibration(p, labels)["ece"]) < 2 * np.sqrt(BINS / m) / 2
    shifted = calibration(p[:, ::-1], labels)
    assert float(shifted["ece"]) > 0.1


def test_certain_and_right_or_wrong():
    right = calibration(jnp.eye(3), jnp.arange(3))
    assert {name: float(v) for name, v in right.items()} == pytest.approx(
        {"accuracy": 1, "nll": 0, "brier": 0, "ece": 0}
    )
    wrong = calibration(jnp.eye(3), (jnp.arange(3) + 1) % 3)
    assert float(wrong["brier"]) == pytest.approx(2)
    assert float(wrong["ece"]) == pytest.approx(1)
    assert np.isfinite(wrong["nll"])
