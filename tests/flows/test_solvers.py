"""Solvers and grids: orders against closed forms, manifolds kept, diffrax's own options."""

from functools import partial

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wfm.flows import (
    Flow,
    Integrator,
    TangentNoise,
    VelocityPrediction,
    X1Prediction,
    denser_early,
    denser_late,
    euler,
    in_flat_space,
    midpoint,
    rk4,
    tsit5,
    uniform,
)
from wfm.manifolds import Euclidean, Hyperboloid, Product, Sphere, Torus
from wfm.priors import standard

KEY = jax.random.key(0)
TURN = [[0, -1.0, 0.3], [1.0, 0, -0.7], [-0.3, 0.7, 0]]
PRODUCT = Product({"s": Sphere((3,)), "e": Euclidean(())})
ORDERS = {euler: 1, midpoint: 2, rk4: 4}
STEPS = [32, 64, 128, 256]
EXACT = VelocityPrediction()


def turning(t, x):
    """x' = cos(3t) A x on the sphere, solved by a matrix exponential; e' = e in flat space."""
    return {"s": jnp.cos(3 * t) * jnp.array(TURN) @ x["s"], "e": x["e"]}


def start_and_end():
    x0 = {"s": jnp.array([0.0, 0.6, 0.8]), "e": jnp.array(1.0)}
    s = jax.scipy.linalg.expm(jnp.array(TURN) * jnp.sin(3.0) / 3) @ x0["s"]
    return x0, {"s": s, "e": jnp.exp(jnp.array(1.0))}


def slope(flow, x0, exact, solver, steps, grid=uniform):
    """Of the logarithm of the error over that of the number of steps."""
    errors = [
        float(
            flow.space.dist(
                jax.jit(partial(flow.integrate, integrator=Integrator(n, solver, grid)))(x0),
                exact,
            )
        )
        for n in steps
    ]
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize("part", ["sphere", "product"])
def test_order_of_convergence(solver, part):
    with jax.enable_x64(True):
        x0, exact = start_and_end()
        field, space = turning, PRODUCT
        if part == "sphere":
            x0, exact, space = x0["s"], exact["s"], Sphere((3,))
            field = lambda t, x: turning(t, {"s": x, "e": 0.0})["s"]  # noqa: E731
        found = slope(Flow(space, field, prediction=EXACT), x0, exact, solver, STEPS)
    assert abs(found + ORDERS[solver]) < 0.15


BOOST = [[0, 0.8, -0.5], [0.8, 0, -0.6], [-0.5, 0.6, 0]]


@pytest.mark.parametrize(
    "solver", [rk4, *(pytest.param(s, marks=pytest.mark.slow) for s in (euler, midpoint))]
)
def test_order_of_convergence_in_the_hyperbolic_plane(solver):
    """x' = cos(3t) B x with a boost and turn B, an isometry, solved by a matrix exponential."""
    space = Hyperboloid(2)

    def field(t, x):
        v = jnp.cos(3 * t) * jnp.array(BOOST) @ x
        return jax.grad(lambda a: space.inner(x, space.frame(x, a), v))(jnp.zeros(3))

    with jax.enable_x64(True):
        x0 = space.project(jnp.array([0.0, 0.6, 0.8]))
        exact = jax.scipy.linalg.expm(jnp.array(BOOST) * jnp.sin(3.0) / 3) @ x0
        found = slope(Flow(space, field, prediction=EXACT), x0, exact, solver, STEPS[:3])
    assert abs(found + ORDERS[solver]) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("solver", ORDERS)
def test_order_is_kept_by_end_points_if_the_grid_is_dense_where_they_land(solver):
    """E[x₁ | x_t] of N(0, 1) → N(2, 1): the flow x_t = 2t + √(t² + (1-t)²) x₀ ends at 2 + x₀."""

    def field(t, x):
        return 2 + t * (x - 2 * t) / (t**2 + (1 - t) ** 2)

    with jax.enable_x64(True):
        x0 = jnp.array([0.7, -1.3])
        flow = Flow(Euclidean((2,)), field, prediction=X1Prediction())
        found = slope(flow, x0, 2 + x0, solver, STEPS, denser_late)
    assert found < 0.15 - ORDERS[solver]  # the last step is 1/n² long, its error 1/n⁴


@pytest.mark.slow
@pytest.mark.parametrize("solver", [*ORDERS, tsit5])
def test_a_geodesic_solver_is_the_method_itself_in_flat_space(solver):
    theirs = {euler: diffrax.Euler(), midpoint: diffrax.Midpoint(), tsit5: diffrax.Tsit5()}
    field = lambda t, x: jnp.sin(3 * x + t)  # noqa: E731
    flow = Flow(Euclidean((3,)), field, prediction=EXACT)
    x0 = jnp.array([0.3, -1.0, 2.0])
    x = jax.jit(lambda x: flow.integrate(x, Integrator(7, solver)))(x0)
    if solver in theirs:
        native = Integrator(7, in_flat_space(theirs[solver]))
        y = jax.jit(lambda x: flow.integrate(x, native))(x0)
    else:
        y, h = x0, 1 / 7
        for t in np.arange(7) / 7:
            k1 = field(t, y)
            k2 = field(t + h / 2, y + h / 2 * k1)
            k3 = field(t + h / 2, y + h / 2 * k2)
            k4 = field(t + h, y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    np.testing.assert_allclose(x, y, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize("noise", [None, TangentNoise(0.05)])
def test_points_stay_on_spheres_for_512_steps(solver, noise):
    m = Product({"w": Sphere((30, 16), axes=0), "last": Sphere((16, 2), radius=2**0.5)})
    field = lambda t, x: jax.tree.map(lambda a: 3 * jnp.sin(5 * a) + t, x)  # noqa: E731
    flow = Flow(m, field, prediction=EXACT)
    x = jax.jit(
        lambda key: flow.solve(standard(m).sample(key), Integrator(512, solver), noise, key)
    )(KEY).ys
    assert abs(jnp.linalg.norm(x["w"][0], axis=0) - 1).max() < 1e-5
    assert abs(jnp.linalg.norm(x["last"]) - 2**0.5) < 1e-5


@pytest.mark.slow
def test_adaptive_steps_on_a_product_and_in_flat_space():
    control = diffrax.PIDController(rtol=1e-5, atol=1e-6)
    x0, exact = start_and_end()
    flow = Flow(PRODUCT, turning, prediction=EXACT)
    adaptive = Integrator(1, tsit5, controller=control)
    solution = jax.jit(lambda x: flow.solve(x, adaptive))(x0)
    end = jax.tree.map(lambda a: a[-1], solution.ys)
    assert PRODUCT.dist(end, exact) < 1e-4
    assert 3 < solution.stats["num_accepted_steps"] < 60
    flat = Flow(Euclidean(()), lambda t, x: -500 * (x - t), prediction=EXACT)
    stiff = Integrator(1, in_flat_space(diffrax.Kvaerno5()), controller=control)
    end = jax.jit(lambda x: flat.integrate(x, stiff))(jnp.float32(1))
    assert abs(end - (1 - 1 / 500)) < 1e-3


@pytest.mark.parametrize("grid", [uniform, denser_early, denser_late])
def test_grids_run_from_0_to_1_and_are_dense_where_they_say(grid):
    t = np.asarray(grid(16))
    assert t[0] == 0
    assert t[-1] == 1
    gaps = np.diff(t)
    assert (gaps > 0).all()
    ends = gaps[0] / gaps[-1]
    assert {uniform: abs(ends - 1) < 1e-4, denser_early: ends < 0.1, denser_late: ends > 10}[grid]


@pytest.mark.parametrize("steps", [1, 2, 16])
@pytest.mark.parametrize("solver", ORDERS)
def test_end_points_are_landed_on(steps, solver):
    torus = Torus((2,))
    goal = jnp.array([1.0, -2.0])
    flow = Flow(torus, lambda t, x: goal, prediction=X1Prediction())
    how = Integrator(steps, solver, denser_late)
    end = jax.jit(lambda key: flow.sample(key, how))(KEY)
    assert torus.dist(end, goal) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("prediction", [VelocityPrediction(), X1Prediction()])
def test_a_trajectory_starts_at_the_prior_and_ends_at_the_sample(prediction):
    flow = Flow(PRODUCT, turning, prediction=prediction)
    how = Integrator(5, midpoint, denser_early)
    way = jax.jit(lambda key: flow.trajectory(key, how))(KEY)
    at = lambda i: jax.tree.map(lambda a: a[i], way)  # noqa: E731
    assert way["s"].shape == (6, 3)
    assert PRODUCT.dist(at(0), flow.prior.sample(KEY)) < 1e-5
    assert PRODUCT.dist(at(-1), flow.sample(KEY, how)) < 1e-5
    if prediction is VelocityPrediction():
        return
    halfway = flow.solve(at(0), how, saveat=diffrax.SaveAt(t1=True)).ys
    assert jnp.isfinite(halfway["s"]).all()


@pytest.mark.slow
def test_samples_can_be_differentiated_and_their_saving_chosen():
    flow = Flow(PRODUCT, turning, prediction=EXACT)
    x0, _ = start_and_end()

    def end(scale, adjoint):
        field = lambda t, x: jax.tree.map(lambda a: scale * a, turning(t, x))  # noqa: E731
        scaled = Flow(PRODUCT, field, prediction=EXACT)
        ys = scaled.solve(x0, Integrator(32, midpoint), adjoint=adjoint).ys
        return ys["e"][-1]

    forward = jax.jvp(lambda s: end(s, diffrax.ForwardMode()), (1.0,), (1.0,))[1]
    backward = jax.grad(lambda s: end(s, diffrax.RecursiveCheckpointAdjoint()))(1.0)
    assert abs(forward - backward) < 1e-4
    assert abs(forward - jnp.e) < 0.01  # d exp(s) / ds at 1
    saveat = diffrax.SaveAt(steps=True, fn=lambda t, x, args: x["e"])
    assert flow.solve(x0, Integrator(8), saveat=saveat).ys.shape == (8,)


def test_progress_is_shown(capsys):
    flow = Flow(PRODUCT, turning, prediction=EXACT)
    meter = diffrax.TextProgressMeter(minimum_increase=0.25)
    end = jax.jit(lambda x: flow.solve(x, Integrator(8), progress_meter=meter).ys)
    jax.block_until_ready(end(start_and_end()[0]))
    assert "100.00%" in capsys.readouterr().out


def test_what_cannot_be_integrated_is_refused():
    flow = Flow(Sphere((3,)), lambda t, x: x)
    with pytest.raises(ValueError, match=r"Kvaerno5 adds points .* leave the Sphere; use euler"):
        flow.sample(KEY, Integrator(4, in_flat_space(diffrax.Kvaerno5())))
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        Integrator(0)
    adaptive = Integrator(4, midpoint, controller=diffrax.PIDController(1e-3, 1e-3))
    with pytest.raises(RuntimeError, match="adaptive step sizes with a solver that does not"):
        flow.sample(KEY, adaptive)
