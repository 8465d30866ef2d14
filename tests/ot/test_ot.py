"""Assignments and soft assignments against SciPy, POT, closed forms and plain differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import ot as pot
import pytest
from scipy.optimize import linear_sum_assignment

from wfm.ot import best_assignment, marginal_error, sinkhorn, to_doubly_stochastic

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


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_implicit_gradient_is_that_of_all_iterations(n):
    score, target = jnp.asarray(scores(n)), jnp.asarray(scores(n, 1))
    loss = lambda f: lambda s: jnp.sum((f(s, 0.5, 60) - target) ** 2)  # noqa: E731
    implicit, direct = (jax.jit(jax.grad(loss(f)))(score) for f in (sinkhorn, unrolled))
    np.testing.assert_allclose(implicit, direct, atol=2e-4 * max(1, float(abs(direct).max())))


def in_the_plane(n, epsilon, seed=0):
    """Minus squared distances of points in the plane, and a temperature in units of their mean."""
    x, y = np.random.default_rng(seed).normal(size=(2, n, 2))
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    return -cost, epsilon * cost.mean()


def test_plans_of_little_entropy_are_the_best_and_keep_their_marginals():
    n, plan_of = 16, jax.jit(sinkhorn)
    for epsilon in (0.05, 0.02, 0.002):
        score, temperature = in_the_plane(n, epsilon)
        plan = np.asarray(plan_of(jnp.asarray(score, jnp.float32), temperature), float)
        assert float(marginal_error(jnp.asarray(plan))) <= 2e-5
        entropy = -(plan * np.log(np.maximum(plan, 1e-300))).sum()
        rows, columns = linear_sum_assignment(score, maximize=True)
        best = score[rows, columns].sum()
        assert (plan * score).sum() <= best + 1e-3
        assert (plan * score).sum() + temperature * entropy >= best - 1e-3
        if epsilon > 0.01:  # less is too little for scores outside of the logarithmic domain
            np.testing.assert_allclose(plan, converged(score, temperature), atol=1e-3)
    exact = n * pot.sinkhorn(
        *[np.full(n, 1 / n)] * 2, -in_the_plane(n, 0.05)[0], in_the_plane(n, 0.05)[1]
    )
    np.testing.assert_allclose(converged(*in_the_plane(n, 0.05)), exact, atol=1e-6)


def test_plans_that_do_not_get_there_say_so_and_can_be_mended():
    score, temperature = in_the_plane(32, 0.002)
    with pytest.warns(UserWarning, match="are off by .* after 2 iterations; allow more"):
        plan = sinkhorn(jnp.asarray(score, jnp.float32), temperature, 2)
    np.testing.assert_allclose(plan.sum(0), 1, atol=1e-5)
    error = abs(plan.sum(1) - 1)
    assert float(error.max()) == pytest.approx(float(marginal_error(plan)))
    assert float(error.max()) > 0.1
    mended = to_doubly_stochastic(plan)
    assert float(marginal_error(mended)) < 1e-5
    assert float(mended.min()) >= 0
    assert float(abs(mended - plan).sum()) <= 2 * float(error.sum()) + 1e-4


def converged(score, temperature):
    """The plan in double precision, by thousands of plain iterations."""
    kernel = np.exp((score - score.max()) / temperature)
    v = np.ones(len(score))
    for _ in range(20_000):
        u = 1 / (kernel @ v)
        v = 1 / (kernel.T @ u)
    return u[:, None] * kernel * v[None]


@pytest.mark.slow
def test_derivatives_by_scores_and_temperature_are_differences_of_converged_plans():
    n, step = 5, 1e-5
    score, target, way = (scores(n, s).astype(float) for s in range(3))
    loss = lambda plan: (plan * target + plan**2 * way).sum()  # noqa: E731

    @jax.jit
    def derivatives(score, temperature):
        f = lambda s, t: loss(sinkhorn(s, t))  # noqa: E731
        ahead = jax.jvp(f, (score, temperature), (jnp.asarray(way, jnp.float32), 1.0))[1]
        return ahead, *jax.grad(f, (0, 1))(score, temperature)

    for temperature in (1.0, 0.2, 0.05):
        at = lambda h, k, t=temperature: loss(converged(score + h * way, t + k))  # noqa: E731
        by_score = (at(step, 0) - at(-step, 0)) / (2 * step)
        by_temperature = (at(0, step) - at(0, -step)) / (2 * step)
        ahead, of_score, of_temperature = derivatives(jnp.asarray(score, jnp.float32), temperature)
        assert float((of_score * way).sum()) == pytest.approx(by_score, rel=1e-3)
        assert float(of_temperature) == pytest.approx(by_temperature, rel=1e-3)
        assert float(ahead) == pytest.approx(by_score + by_temperature, rel=1e-3)


def test_scores_that_are_not_numbers_are_refused_or_kept_apart():
    good = scores(4)
    bad = np.where(np.eye(4, dtype=bool)[2], np.nan, good)
    with pytest.raises(ValueError, match="finite scores, but rows 0, 1, 2, 3 hold NaN"):
        best_assignment(jnp.asarray(bad))
    with pytest.raises(ValueError, match="rows 1 hold NaN or infinity; use large negative"):
        best_assignment(jnp.asarray(good).at[1, 1].set(-jnp.inf))
    both = jnp.stack([jnp.asarray(bad), jnp.asarray(good)])
    found = jax.jit(jax.vmap(best_assignment))(both)
    np.testing.assert_array_equal(found[0], np.arange(4))
    np.testing.assert_array_equal(found[1], best_assignment(both[1]))
    plans = jax.jit(jax.vmap(lambda s: sinkhorn(s, 0.3)))(both)
    assert jnp.isnan(plans[0]).all()
    np.testing.assert_allclose(plans[1], sinkhorn(both[1], 0.3), atol=1e-5)
