"""Densities of samplers' own steps, against derivatives of the whole; errors that are said."""

import diffrax
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from wfm.flows import (
    Flow,
    Hutchinson,
    Integrator,
    VelocityPrediction,
    X1Prediction,
    denser_late,
    euler,
    rk4,
    tsit5,
)
from wfm.manifolds import Euclidean, Product, Sphere
from wfm.priors import standard

KEY = jax.random.key(0)
SPACES = {
    "flat": Euclidean((3,)),
    "product": Product({"w": Sphere((3, 2), axes=0), "b": Euclidean((1,))}),
}
CASES = {
    "flat": ("flat", VelocityPrediction(), Integrator(8, euler)),
    "columns on spheres, which land": (
        "product",
        X1Prediction(),
        Integrator(6, euler, denser_late),
    ),
}


def ravel(x):
    return jax.flatten_util.ravel_pytree(x)[0]


def batch_loss(x, key):
    """A small network's, on a batch of four examples with noise on their inputs."""
    flat = ravel(x)
    rows = jnp.cos(jnp.arange(4 * flat.size)).reshape(4, -1)
    noise = jax.random.normal(key, rows.shape, dtype=jnp.float32)  # the same in any precision
    return jax.nn.softplus((rows + 0.5 * noise.astype(flat.dtype)) @ flat).mean()


def wavy(prediction):
    """A field that mixes coordinates, and bends."""

    def field(t, x):
        move = jax.tree.map(lambda a: jnp.sin(2 * a + t) + 0.3 * jnp.roll(a, 1), x)
        if not prediction.lands:
            return move
        return jax.tree.map(lambda a, v: a + (1 - t) * v, x, move)

    return field


def end_and_log_determinant(space, run, x):
    """Of `run` in orthonormal bases of both tangent spaces, by central differences."""
    _, unflatten = jax.flatten_util.ravel_pytree(x)

    def basis(x):
        directions = jnp.eye(len(ravel(x)))
        project = jax.vmap(lambda e: ravel(space.to_tangent(x, unflatten(e))))(directions)
        return jnp.linalg.eigh(project)[1][:, -space.dim :]  # of eigenvalue 1, the others 0

    h = 1e-5 * basis(x).T
    steps = jnp.concatenate([h, -h, 0 * h[:1]])
    ends = jax.vmap(lambda h: run(space.exp(x, unflatten(h))))(steps)
    plus, minus, _ = jnp.split(jax.vmap(ravel)(ends), [len(h), 2 * len(h)])
    end = jax.tree.map(lambda a: a[-1], ends)
    return end, jnp.linalg.slogdet((plus - minus) / 2e-5 @ basis(end))[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_guided_sampler_has_the_density_of_its_own_map_forth_and_back(case):
    """With a batch of its own at every step, and noise on its inputs."""
    name, prediction, how = case
    space, field = SPACES[name], wavy(prediction)
    plain = Flow(space, field, prediction=prediction)
    flow = plain.guided(batch_loss, 1.0, jax.random.key(7))

    @jax.jit
    def all_ways(key):
        x0 = flow.prior.sample(key)
        drawn, change = end_and_log_determinant(space, lambda x: flow.integrate(x, how), x0)
        x, forth = flow.sample_with_log_prob(key, how)
        back = flow.sampler_log_prob(x, how)
        return flow.prior.log_prob(x0) - change, forth, back, ravel(x), ravel(drawn)

    with jax.enable_x64(True):
        exact, forth, back, x, drawn = (np.asarray(a) for a in all_ways(KEY))
    assert abs(forth - exact) < 1e-6
    assert abs(back - forth) < 1e-8
    np.testing.assert_allclose(x, drawn, atol=1e-10)
    with pytest.raises(ValueError, match="use sampler_log_prob with the integrator that samples"):
        flow.log_prob(standard(space).sample(KEY))


@pytest.mark.slow
def test_single_precision_undoes_steps_and_other_programs_take_the_same_batches():
    """50 steps, whose times are no multiples of powers of 2; in turn compiled and not."""
    plain = Flow(SPACES["flat"], wavy(VelocityPrediction()), prediction=VelocityPrediction())
    flow, how = plain.guided(batch_loss, 1.0, KEY), Integrator(50, euler)
    x, forth = jax.jit(lambda key: flow.sample_with_log_prob(key, how))(KEY)
    back = flow.sampler_log_prob(x, how)
    assert abs(forth - back) < 1e-4
    np.testing.assert_allclose(x, flow.sample(KEY, how), atol=1e-5)
    estimate = lambda k: flow.sampler_log_prob(x, how, Hutchinson(), k)  # noqa: E731
    found = jax.jit(jax.vmap(estimate))(jax.random.split(KEY, 100))
    assert found.std() > 0
    assert abs(found.mean() - forth) < 4 * found.std() / 100**0.5


@pytest.mark.slow
def test_strong_guidance_has_its_density_or_says_that_it_has_none():
    """Down λ Σ log cosh(3 (x - c)) on the whole data, from flat to steep: no batches are drawn.

    The n Euler steps x ← x - 3 λ/n tanh(3 (x - c)) of a coordinate are one-to-one while 9 λ < n.
    All that starts near c ends within rounding of it, unless c = 0, where numbers lie dense.
    """
    still = lambda t, x: jnp.zeros_like(x)  # noqa: E731
    for centre, steps in ((0.0, 64), (1.0, 64), (0.0, 32)):
        valley = lambda x, key, c=centre: jnp.log(jnp.cosh(3 * (x - c))).sum()  # noqa: E731
        flow = Flow(Euclidean((2,)), still, prediction=VelocityPrediction()).guided(
            valley, 5.0, KEY
        )
        x0, how = flow.prior.sample(KEY), Integrator(steps, euler)
        rate, x, slope = 5.0 / steps, np.asarray(x0, float), np.ones(2)
        for _ in range(steps):
            slope *= 1 - 9 * rate / np.cosh(3 * (x - centre)) ** 2
            x = x - 3 * rate * np.tanh(3 * (x - centre))
        expected = float(flow.prior.log_prob(x0)) - np.log(np.abs(slope)).sum()
        end = jnp.asarray(x, jnp.float32)
        forth = jax.jit(lambda key, f=flow, h=how: f.sample_with_log_prob(key, h)[1])(KEY)
        back = jax.jit(lambda x, f=flow, h=how: f.sampler_log_prob(x, h))(end)
        if steps == 64:
            assert abs(forth - expected) < 1e-3
            assert abs(back - expected) < 1e-2 if centre == 0 else jnp.isnan(back)
        else:
            assert jnp.isnan(forth)
            assert jnp.isnan(back)
            with pytest.raises(ValueError, match="no known density here: a step is too long"):
                flow.sample_with_log_prob(KEY, how)


@pytest.mark.slow
def test_likelihoods_of_802_narrow_dimensions_and_their_errors():
    """N(0, 1) → N(0, 0.1²), x' = x ṡ/s with s² = (1-t)² + 0.01 t²: by default, and said."""
    square = lambda t: (1 - t) ** 2 + 0.01 * t**2  # noqa: E731
    fields = [
        (VelocityPrediction(), lambda t, x: x * (0.01 * t - (1 - t)) / square(t)),
        (X1Prediction(), lambda t, x: x * 0.01 * t / square(t)),
    ]
    x = 0.1 * jax.random.normal(KEY, (802,))
    exact = jax.scipy.stats.norm.logpdf(x, 0, 0.1).sum()
    coarse, by_euler = Integrator(8, rk4, denser_late), Integrator(64, euler)
    for prediction, field in fields:
        flow, errors = Flow(Euclidean((802,)), field, prediction=prediction), {}
        for how in (None, coarse, by_euler):
            say = lambda x, f=flow, h=how: f.log_prob_with_error(  # noqa: E731
                x,
                h,
                Hutchinson(),
                KEY,  # signs have no error of their own on such fields
            )
            found = jax.jit(say)(x)
            errors[how] = found.error
            assert abs(found.value - exact) < found.error
        assert errors[None] < 0.3
        assert errors[by_euler] > 10  # 64 Euler steps are far off, and say so
    # `flow` is that of end points, the harder one; by default the trace is over all directions.
    assert abs(jax.jit(lambda x: flow.log_prob(x))(x) - exact) < 0.05


@pytest.mark.slow
def test_densities_of_steps_that_are_refused():
    flow = Flow(Euclidean((3,)), lambda t, x: -1.9 * x, prediction=VelocityPrediction())
    adaptive = Integrator(4, tsit5, controller=diffrax.PIDController(1e-3, 1e-3))
    with pytest.raises(ValueError, match="adaptive steps depend on where they start"):
        flow.sample_with_log_prob(KEY, adaptive)
    with pytest.raises(ValueError, match="adaptive ones have none"):
        flow.log_prob_with_error(jnp.ones(3), adaptive)
    with pytest.raises(ValueError, match="found by halving the steps, got 1"):
        flow.log_prob_with_error(jnp.ones(3), Integrator(1))
    with pytest.raises(ValueError, match="give a key"):
        flow.sampler_log_prob(jnp.ones(3), Integrator(2), Hutchinson())
    # One step to -0.9 x turns over; two to 0.05 x each are known, but too long for the estimate.
    with pytest.raises(ValueError, match="a step is too long"):
        flow.sampler_log_prob(jnp.ones(3), Integrator(1))
    x = jnp.full(3, 0.001)
    found = flow.sampler_log_prob(x, Integrator(2))
    np.testing.assert_allclose(
        found, flow.prior.log_prob(x / 0.05**2) - 6 * np.log(0.05), rtol=1e-4
    )
    with pytest.raises(ValueError, match="a step is too long"):
        flow.sampler_log_prob(x, Integrator(2), Hutchinson(), KEY)
