"""Stochastic sampling, against closed forms of variances."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wfm.flows import (
    Flow,
    FlowMatching,
    Integrator,
    OptimalTransport,
    ScoreNoise,
    TangentNoise,
    VelocityPrediction,
    euler,
    in_flat_space,
    midpoint,
)
from wfm.manifolds import Euclidean, Product, Sphere
from wfm.priors import Pushforward, Uniform, WrappedNormal

KEY = jax.random.key(0)
STILL = VelocityPrediction()


def still(t, x):
    return jnp.zeros_like(x)


def assert_moments(x, mean, std):
    assert abs(x.mean() - mean) < 4 * std / x.size**0.5
    assert abs(x.std() - std) < 4 * std / (2 * x.size) ** 0.5


@pytest.mark.parametrize(
    ("noise", "noisy_steps"),
    [
        pytest.param(TangentNoise(0.05), 100, marks=pytest.mark.slow),
        pytest.param(TangentNoise(0.05, start=0.795), 20, marks=pytest.mark.slow),
        (TangentNoise(0.05, 0.295, 0.495), 20),
        (TangentNoise(0.0), 0),
    ],
)
def test_tangent_noise_adds_its_variance_at_each_step_of_its_window(noise, noisy_steps):
    flow = Flow(Euclidean((40_000,)), still, prediction=STILL)
    x0 = jnp.zeros(40_000)
    move = jax.jit(lambda key: flow.integrate(x0, Integrator(100), noise, key))
    if noisy_steps == 0:
        assert (move(KEY) == 0).all()
        return
    assert_moments(move(KEY), 0, 0.05 * noisy_steps**0.5)
    assert (move(KEY) != move(jax.random.key(1))).any()


@pytest.mark.slow
def test_tangent_noise_on_a_sphere_is_brownian_motion():
    """E[x · x₀] after diffusion by total variance s per direction on S² is exp(-s)."""
    sphere, n = Sphere((3,)), 200
    flow = Flow(sphere, still, prediction=STILL)
    x0 = jnp.array([0.0, 0.0, 1.0])
    noise = TangentNoise(0.05)
    move = lambda key: flow.integrate(x0, Integrator(n), noise, key)  # noqa: E731
    height = jax.jit(jax.vmap(move))(jax.random.split(KEY, 4000))[:, 2]
    assert abs(height.mean() - np.exp(-n * 0.05**2)) < 4 * height.std() / 4000**0.5


M, S = 0.5, 2.0


def end_point(t, x):
    """E[x₁ | x_t] for a prior N(m, s²) and data N(-1, 0.6²), independent."""
    variance = (t * 0.6) ** 2 + ((1 - t) * S) ** 2
    return -1 + t * 0.6**2 / variance * (x + t - (1 - t) * M)


@pytest.mark.optimised
@pytest.mark.parametrize("rate", [0.3, 3.0])
@pytest.mark.parametrize("solver", [euler, midpoint, in_flat_space(diffrax.Heun())])
def test_score_noise_keeps_the_marginals_all_along(rate, solver):
    size = 5_000
    space = Product({"a": Euclidean((size,))})
    prior = WrappedNormal(space, S, M)
    flow = Flow(space, lambda t, x: {"a": end_point(t, x["a"])}, prior=prior)
    how = Integrator(250, solver)
    way = jax.jit(lambda key: flow.trajectory(key, how, ScoreNoise(rate)))(KEY)["a"]
    for i in (0, 50, 125, 200, 250):
        t = i / 250
        std = ((t * 0.6) ** 2 + ((1 - t) * S) ** 2) ** 0.5
        error = 0.01 * std  # of 250 steps
        assert abs(way[i].mean() - ((1 - t) * M - t)) < 4 * std / size**0.5 + error
        assert abs(way[i].std() - std) < 4 * std / (2 * size) ** 0.5 + error
    # The start is forgotten, which the ordinary equation never does.
    kept = abs(np.corrcoef(way[0], way[-1])[0, 1])
    plain = jax.jit(lambda key: flow.trajectory(key, how))(KEY)["a"]
    assert np.corrcoef(plain[0], plain[-1])[0, 1] > 0.99
    assert kept < (0.9 if rate < 1 else 0.1)


def test_impossible_noise_is_refused():
    field = lambda t, x: x  # noqa: E731
    with pytest.raises(ValueError, match="scale is a standard deviation and cannot be negative"):
        TangentNoise(-0.1)
    with pytest.raises(ValueError, match=r"window with 0 ≤ start < end ≤ 1, got 0.8 to 0.5"):
        TangentNoise(0.1, 0.8, 0.5)
    with pytest.raises(ValueError, match="rate of noise cannot be negative"):
        ScoreNoise(-1.0)
    with pytest.raises(ValueError, match="noise is random: give a key"):
        Flow(Sphere((3,)), field).integrate(jnp.ones(3), noise=TangentNoise(0.1))
    flat = Euclidean((3,))
    coupled = FlowMatching(flat, coupling=OptimalTransport()).flow(field)
    for flow in (Flow(Sphere((3,)), field), coupled):
        with pytest.raises(ValueError, match="only in flat space and with the independent"):
            flow.sample(KEY, noise=ScoreNoise())
    for prior in (Uniform(Sphere((3,))), Pushforward(WrappedNormal(flat), jnp.tanh)):
        with pytest.raises(NotImplementedError, match="not Gaussian"):
            Flow(flat, field, prior=prior).sample(KEY, noise=ScoreNoise())
