"""Guidance, on objectives whose answer is known."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wfm.flows import (
    Flow,
    FlowMatching,
    Integrator,
    VelocityPrediction,
    X1Prediction,
    euler,
    rk4,
    tsit5,
)
from wfm.manifolds import Euclidean, Product, Sphere
from wfm.priors import standard

KEY = jax.random.key(0)


def still(t, x):
    return jnp.zeros_like(x)


def quadratic(goal):
    """Half the squared distance to `goal`, in ambient coordinates."""

    def objective(x, key):
        return sum(
            ((a - b) ** 2).sum() / 2
            for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(goal), strict=True)
        )

    return objective


def test_a_quadratic_in_flat_space_decays_exponentially_at_x_t():
    """With no velocity of its own, x' = -λ (x - goal)."""
    goal, x0 = jnp.array([1.0, -2.0]), jnp.array([3.0, 5.0])
    plain = Flow(Euclidean((2,)), still, prediction=VelocityPrediction())
    x = plain.guided(quadratic(goal), 1.5, KEY, False).integrate(x0, Integrator(16, rk4))
    np.testing.assert_allclose(x, goal + np.exp(-1.5) * (x0 - goal), rtol=1e-4)
    ramp = plain.guided(quadratic(goal), lambda t: 3 * t, KEY)
    x = ramp.integrate(x0, Integrator(16, rk4))  # ∫ 3t dt = 1.5; x̂₁ = x without velocity
    np.testing.assert_allclose(x, goal + np.exp(-1.5) * (x0 - goal), rtol=1e-4)


def test_at_the_end_point_the_whole_way_is_moved_towards_the_goal():
    """A constant velocity c leads to x + (1-t) c: with z = x + (1-t) c - goal, z' = -λ z."""
    goal, x0, c = jnp.array([1.0, -2.0]), jnp.array([3.0, 5.0]), jnp.array([-1.0, 0.5])
    plain = Flow(Euclidean((2,)), lambda t, x: c, prediction=VelocityPrediction())
    x = plain.guided(quadratic(goal), 2.0, KEY).integrate(x0, Integrator(16, rk4))
    np.testing.assert_allclose(x, goal + np.exp(-2.0) * (x0 + c - goal), rtol=1e-3)


def test_the_riemannian_gradient_leads_along_the_great_circle():
    """From angle φ to the goal, φ' = -λ sin φ: tan(φ/2) decays exponentially."""
    sphere = Sphere((3,))
    goal, x0 = jnp.array([0.0, 0.0, 1.0]), jnp.array([0.6, 0.0, -0.8])
    plain = Flow(sphere, still, prediction=VelocityPrediction())
    for at_end_point in (False, True):
        flow = plain.guided(quadratic(goal), 1.2, KEY, at_end_point)
        x = jax.jit(lambda x, f=flow: f.integrate(x, Integrator(32, rk4)))(x0)
        angle = 2 * np.arctan(np.tan(sphere.dist(x0, goal) / 2) * np.exp(-1.2))
        assert abs(sphere.dist(x, goal) - angle) < 1e-4
        assert abs(x[1]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "normalized", "geometric"])
@pytest.mark.parametrize("at_end_point", [False, True])
@pytest.mark.parametrize(("prediction", "stay"), [(VelocityPrediction(), 0), (X1Prediction(), 1)])
def test_guided_samples_are_nearer_to_the_goal_and_on_the_manifold(
    kind, at_end_point, prediction, stay
):
    m = Product({"w": Sphere((5, 4), axes=0), "b": Euclidean((4,))})
    space = {"flat": m.ambient(), "normalized": m.ambient(), "geometric": m}[kind]
    target = m.ambient() if kind == "flat" else m
    goal = standard(m, 0.3).sample(jax.random.key(5))
    # End points repeat x, velocities do not: either way, the flow moves little by itself.
    field = lambda t, x: jax.tree.map(  # noqa: E731
        lambda a: stay * a + 0.3 * (1 - t) * jnp.sin(5 * a), x
    )
    plain = Flow(space, field, target=target, prediction=prediction)
    guided = plain.guided(quadratic(goal), 3.0, KEY, at_end_point)
    ends = [jax.jit(lambda flow, key: flow.sample(key))(flow, KEY) for flow in (plain, guided)]
    before, after = (target.dist(x, goal) for x in ends)
    assert after < before
    assert target.dist(ends[1], target.project(ends[1])) < 1e-4


def test_every_time_has_a_batch_of_its_own_and_the_velocity_stays_a_function():
    batch = lambda x, key: (x * jax.random.normal(key, x.shape)).sum()  # noqa: E731
    plain = Flow(Euclidean((500,)), still, prediction=VelocityPrediction())
    flow = plain.guided(batch, 1.0, KEY)
    x = jnp.zeros(500)
    at = lambda t: flow.velocity(jnp.float32(t), x)  # noqa: E731
    assert (at(0.5) == at(0.5)).all()
    assert abs(np.corrcoef(at(0.5), at(0.5 + 1e-6))[0, 1]) < 4 / 500**0.5
    other = plain.guided(batch, 1.0, jax.random.key(1))
    assert (other.velocity(jnp.float32(0.5), x) != at(0.5)).all()
    # n Euler steps are n steps of gradient descent with rate scale / n: here a random walk.
    end = jax.jit(lambda x: flow.integrate(x, Integrator(64, euler)))(x)
    assert abs(end.std() - 1 / 8) < 4 * (1 / 8) / 1000**0.5


def test_guidance_works_with_adaptive_steps_and_leaves_the_loss_alone():
    goal = jnp.array([1.0, -2.0])
    matching = FlowMatching(Euclidean((2,)), prediction=VelocityPrediction())
    flow = matching.flow(still).guided(quadratic(goal), 1.0, KEY)
    control = diffrax.PIDController(rtol=1e-5, atol=1e-6)
    x = jax.jit(lambda x: flow.integrate(x, Integrator(1, tsit5, controller=control)))(goal + 1)
    np.testing.assert_allclose(x, goal + np.exp(-1), atol=1e-4)
    data = jnp.ones((4, 2))
    guided = FlowMatching(Euclidean((2,)), prediction=flow.prediction)
    assert guided.loss(still, data, KEY) == matching.loss(still, data, KEY)
