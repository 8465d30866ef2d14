"""Paths, times, predictions, solvers: against closed forms, on every manifold."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests.manifolds.table import CASES
from wfm.flows import (
    BetaTime,
    Flow,
    FlowMatching,
    GeodesicPath,
    Independent,
    Integrator,
    Spaces,
    VelocityPrediction,
    X1Prediction,
)
from wfm.manifolds import Euclidean, Product, Sphere
from wfm.priors import Pushforward, standard

manifolds = pytest.mark.parametrize("manifold", CASES)
KEY = jax.random.key(0)


@manifolds
def test_path_runs_along_the_geodesic_with_its_velocity(manifold):
    @jax.jit
    def points(key):
        a, b, c = jax.random.split(key, 3)
        x0, x1 = standard(manifold).sample(a), standard(manifold).sample(b)
        at = lambda t: GeodesicPath().sample(manifold, x0, x1, t, c)[0]  # noqa: E731
        t = jnp.float32(0.3)
        x, velocity = GeodesicPath().sample(manifold, x0, x1, t, c)
        derivative = jax.jvp(at, (t,), (jnp.float32(1),))[1]
        remaining = jax.tree.map(lambda v: v / (1 - t), manifold.log(x, x1))
        return at(0 * t), x0, at(1 + 0 * t), x1, velocity, derivative, remaining

    start, x0, end, x1, velocity, derivative, remaining = points(KEY)
    chex.assert_trees_all_close(start, x0, atol=1e-5)
    assert manifold.dist(end, x1) < 1e-4
    chex.assert_trees_all_close(velocity, derivative, atol=1e-4)
    chex.assert_trees_all_close(velocity, remaining, atol=1e-4)


def test_noise_of_the_path_has_its_scale_and_stays_on_the_manifold():
    sphere, sigma = Sphere((3,)), 0.01
    x0, x1 = jnp.array([1.0, 0, 0]), jnp.array([0, 1.0, 0])
    draw = lambda k: GeodesicPath(sigma).sample(sphere, x0, x1, jnp.float32(0.5), k)  # noqa: E731
    x, v = jax.jit(jax.vmap(draw))(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(jnp.linalg.norm(x, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((x * v).sum(1), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(v, axis=1), jnp.pi / 2, rtol=1e-5)
    middle = jnp.array([1.0, 1.0, 0]) / 2**0.5
    squared = jax.jit(jax.vmap(lambda x: sphere.dist(middle, x) ** 2))(x)  # two tangent dimensions
    error = squared.std() / len(x) ** 0.5
    assert abs(squared.mean() - 2 * sigma**2) < 4 * error


@pytest.mark.parametrize("b", [1.0, 2.0])
def test_times_are_beta_distributed(b):
    t = jax.vmap(BetaTime(b).sample)(jax.random.split(KEY, 5000))
    assert scipy.stats.kstest(np.asarray(t), scipy.stats.beta(1, b).cdf).pvalue > 1e-3


def ideal_end_point(t, x):
    """E[x₁ | x_t] for N(0, 1) → N(1, 1), independent: linear in x_t."""
    return 1 + t * (x - t) / (t**2 + (1 - t) ** 2)


def test_sampling_with_the_ideal_field_follows_the_recursion_of_its_moments():
    flow, steps = Flow(Euclidean((20_000,)), ideal_end_point), 100
    x = jax.jit(lambda key: flow.sample(key, Integrator(steps)))(KEY)
    # Euler's method is linear here, so the mean and the standard deviation follow exactly.
    mean, std = 0.0, 1.0
    for t in np.arange(steps) / steps:
        slope = t / (t**2 + (1 - t) ** 2)
        factor = (slope - 1) / (1 - t) / steps
        mean += (1 - slope * t) / (1 - t) / steps + factor * mean
        std *= 1 + factor
    assert std == pytest.approx(0.987, abs=1e-3)  # and not the 0.487 of integrating x̂₁ - x₀
    assert abs(x.std() - std) < 4 * std / (2 * x.size) ** 0.5
    assert abs(x.mean() - mean) < 4 * std / x.size**0.5


@pytest.mark.parametrize("prediction", [X1Prediction(), VelocityPrediction()])
def test_the_ideal_field_minimises_the_loss(prediction):
    matching = FlowMatching(Euclidean((50,)), prediction=prediction)
    data = 1 + jax.random.normal(KEY, (2000, 50))

    def field(shift, factor):
        def ideal(t, x):
            v = (ideal_end_point(t, x) - x) / (1 - t)
            v = factor * v + shift
            return prediction_output(prediction, t, x, v)

        return ideal

    loss = jax.jit(lambda s, f: matching.loss(field(s, f), data, jax.random.key(1)))
    best = loss(0.0, 1.0)
    for shift, factor in [(0.2, 1.0), (-0.2, 1.0), (0.0, 1.1), (0.0, 0.9)]:
        assert loss(shift, factor) > best


def prediction_output(prediction, t, x, v):
    """What a field must return so that its velocity is `v`."""
    flat = Spaces(Euclidean(x.shape), Euclidean(x.shape))
    zero = prediction.velocity(flat, t, x, jnp.zeros_like(x))
    one = prediction.velocity(flat, t, x, jnp.ones_like(x))
    return (v - zero) / (one - zero)  # velocities are affine in the output


@pytest.mark.parametrize(
    "prediction", [X1Prediction(), pytest.param(VelocityPrediction(), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "kind",
    [*(pytest.param(k, marks=pytest.mark.slow) for k in ("euclidean", "normalized")), "geometric"],
)
def test_the_three_flows_end_where_the_data_live(kind, prediction):
    m = Product({"w": Sphere((5, 4), axes=0), "b": Euclidean((4,))})
    space = m if kind == "geometric" else m.ambient()
    target = m.ambient() if kind == "euclidean" else m
    matching = FlowMatching(space, target=target, prediction=prediction)
    field = lambda t, x: jax.tree.map(lambda a: jnp.sin(5 * a) + t, x)  # noqa: E731
    flow = matching.flow(field)
    x = jax.jit(lambda key: flow.sample(key, Integrator(16)))(KEY)
    on_manifold = all(
        jnp.allclose(a, b, atol=1e-5)
        for a, b in zip(*map(jax.tree.leaves, (x, m.project(x))), strict=True)
    )
    assert on_manifold == (kind != "euclidean")
    loss, gradient = jax.jit(
        jax.value_and_grad(
            lambda s: matching.loss(
                lambda t, x: jax.tree.map(lambda a: s * a, field(t, x)),
                jax.jit(jax.vmap(standard(m).sample))(jax.random.split(KEY, 8)),
                KEY,
            )
        )
    )(1.0)
    assert jnp.isfinite(loss)
    assert jnp.isfinite(gradient)
    assert loss > 0


def test_units_divide_the_parts_of_the_loss():
    m = Product({"a": Euclidean((3,)), "b": Euclidean((2,))})
    data = jax.jit(jax.vmap(standard(m).sample))(jax.random.split(KEY, 16))
    field = lambda t, x: jax.tree.map(lambda a: 0 * a + 5.0, x)  # noqa: E731
    only = lambda big: FlowMatching(m, unit=big).loss(field, data, KEY)  # noqa: E731
    plain = FlowMatching(m).loss(field, data, KEY)
    a, b = only({"a": 1.0, "b": 1e9}), only({"a": 1e9, "b": 1.0})
    np.testing.assert_allclose(a + b, plain, rtol=1e-5)
    np.testing.assert_allclose(only({"a": 2.0, "b": 0.5}), a / 4 + b * 4, rtol=1e-5)


def test_priors_and_coupling():
    m = Product({"w": Sphere((3, 2), axes=0), "b": Euclidean((2,))})
    prior = standard(m, 0.3)
    x = prior.sample(KEY)
    moved = Pushforward(prior, lambda x: jax.tree.map(lambda a: 2 * a, x))
    chex.assert_trees_all_close(moved.sample(KEY), jax.tree.map(lambda a: 2 * a, x))
    with pytest.raises(NotImplementedError, match="no known density"):
        moved.log_prob(x)
    data = jax.jit(jax.vmap(prior.sample))(jax.random.split(KEY, 2000))
    x0, _ = Independent().pair(m, prior, data, KEY)
    b = x0["b"].ravel()
    assert abs(b.std() - 0.3) < 4 * 0.3 / (2 * b.size) ** 0.5


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="sigma is a noise scale"):
        GeodesicPath(-0.1)
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        Flow(Euclidean((2,)), ideal_end_point).sample(KEY, Integrator(0))
