"""Assignments and soft assignments against SciPy, POT, closed forms and plain differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import ot as pot
import pytest
from scipy.optimize import linear_sum_assignment

from wfm.ot import best_assignment, sinkhorn

SIZES = [0, 1, 2, 3, 7, 16, 33, 64]


def scores(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n)).astype(np.float32)


@pytest.mark.parametrize("n", SIZES)
def test_assignment_is_as_good_as_scipys_and_pots(n):
    assign = jax.jit(best_assignment)
    for seed in range(5):
        score = scores(n, seed)
        ours = np.asarray(assign(jnp.asarray(score)))
        assert sorted(ours.tolist()) == list(range(n))
        total = score[np.arange(n), ours].sum()
        rows, columns = linear_sum_assignment(score, maximize=True)
        np.testing.assert_allclose(total, score[rows, columns].sum(), rtol=1e-5)
        if n > 1:  # POT calls the problem of size 1 infeasible
            best = -pot.emd2([], [], -score.astype(float)) * n
            np.testing.assert_allclose(total, best, rtol=1e-5)


def test_ties_still_give_a_permutation():
    assert sorted(best_assignment(jnp.zeros((5, 5))).tolist()) == list(range(5))


@pytest.mark.parametrize("shape", [(2, 3), (4, 1), (0, 2)])
def test_unequal_numbers_are_refused(shape):
    with pytest.raises(ValueError, match="equally many rows and columns, got scores of shape"):
        best_assignment(jnp.zeros(shape))
    with pytest.raises(ValueError, match="equally many rows and columns, got scores of shape"):
        sinkhorn(jnp.zeros(shape), 1.0)


@pytest.mark.parametrize("n", [1, 2, 16, 64])
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_sinkhorn_agrees_with_pot(n, temperature):
    score, marginal = scores(n), np.full(n, 1 / n)
    plan = np.asarray(jax.jit(lambda s: sinkhorn(s, temperature, 500))(jnp.asarray(score)))
    expected = n * pot.sinkhorn(
        marginal, marginal, -score.astype(float), temperature, method="sinkhorn_log"
    )
    np.testing.assert_allclose(plan, expected, atol=1e-4)
    np.testing.assert_allclose(plan.sum(0), 1, atol=1e-5)
    np.testing.assert_allclose(plan.sum(1), 1, atol=1e-4)


def test_sinkhorn_runs_from_uniform_to_the_best_assignment():
    score = jnp.asarray(scores(6))
    np.testing.assert_allclose(sinkhorn(score, 1e6), 1 / 6, rtol=1e-4)
    hard = jax.nn.one_hot(best_assignment(score), 6)
    np.testing.assert_allclose(sinkhorn(score, 0.005, 3000), hard, atol=1e-3)
    assert jnp.isfinite(sinkhorn(1e4 * score, 1e-3)).all()


def unrolled(score, temperature, iterations):
    """Sinkhorn's operator outside the logarithmic domain, differentiated step by step."""
    plan = jnp.exp(score / temperature)
    for _ in range(iterations):
        plan = plan / plan.sum(1, keepdims=True)
        plan = plan / plan.sum(0, keepdims=True)
    return plan


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_implicit_gradient_is_that_of_all_iterations(n):
    score, target = jnp.asarray(scores(n)), jnp.asarray(scores(n, 1))
    loss = lambda f: lambda s: jnp.sum((f(s, 0.5, 60) - target) ** 2)  # noqa: E731
    implicit, direct = (jax.jit(jax.grad(loss(f)))(score) for f in (sinkhorn, unrolled))
    np.testing.assert_allclose(implicit, direct, atol=2e-4 * max(1, float(abs(direct).max())))
