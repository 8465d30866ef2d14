"""Flows under JAX's transformations, as they are."""

from functools import partial

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.nnx import Rngs
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec as P

from wfm.devices import AXIS, device_mesh
from wfm.fields import PNA, MLPField, functional
from wfm.flows import Flow, Integrator, VelocityPrediction
from wfm.manifolds import Euclidean, Sphere
from wfm.weights import Canonical, mlp

KEY = jax.random.key(0)
HOW = Integrator(3)


def over_weights(seed):
    """A flow over weights whose parameters are random, made from nothing shared."""
    form = Canonical(mlp(2, 3, 2))
    return _moved(form.manifold(), PNA(form.spec, width=4, depth=1, rngs=Rngs(seed)), seed)


def on_a_sphere(seed):
    return _moved(Sphere((3,)), MLPField(jnp.ones(3), width=4, depth=1, rngs=Rngs(seed)), seed)


def _moved(space, module, seed):
    bind, params = functional(module)
    key = jax.random.key(seed)
    moved = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(key, a.shape), params)
    return Flow(space, bind(moved), prediction=VelocityPrediction())


makers = pytest.mark.parametrize(
    "make", [pytest.param(over_weights, marks=pytest.mark.slow), on_a_sphere]
)


@makers
def test_new_parameters_make_no_new_program(make):
    chex.clear_trace_counter()
    sample = jax.jit(chex.assert_max_traces(lambda flow, key: flow.sample(key, HOW), n=1))
    ends = [ravel_pytree(sample(make(seed), KEY))[0] for seed in (0, 1)]
    assert abs(ends[0] - ends[1]).max() > 1e-3


@pytest.mark.slow
@makers
def test_the_gradient_by_a_flow_is_that_by_its_parameters(make):
    flow, t = make(0), jnp.float32(0.5)
    x = flow.prior.sample(KEY)

    def loss(flow):
        v = ravel_pytree(flow.velocity(t, x))[0]
        return jnp.sum(jnp.arange(v.size) * v)

    whole = jax.jit(jax.grad(loss))(flow)
    assert jax.tree.structure(whole) == jax.tree.structure(flow)
    at = lambda p: eqx.tree_at(lambda f: f.field.params, flow, p)  # noqa: E731
    params = jax.jit(jax.grad(lambda p: loss(at(p))))(flow.field.params)
    chex.assert_trees_all_close(whole.field.params, params, rtol=1e-5, atol=1e-6)
    assert any(jnp.abs(a).max() > 0 for a in jax.tree.leaves(whole))


def test_stacked_flows_are_many_flows():
    flows = [on_a_sphere(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *flows)
    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(lambda flow, key: flow.sample(key, HOW)))(stacked, keys)
    sample = jax.jit(lambda flow, key: flow.sample(key, HOW))
    apart = jax.tree.map(lambda *a: jnp.stack(a), *map(sample, flows, keys))
    chex.assert_trees_all_close(together, apart, atol=1e-5)


@pytest.mark.slow
@makers
def test_devices_share_a_flow_and_divide_keys(make):
    flow, keys, mesh = make(0), jax.random.split(KEY, 8), device_mesh()
    move = lambda flow, key: flow.velocity(jnp.float32(0.5), flow.prior.sample(key))  # noqa: E731
    draw = jax.vmap(move, (None, 0))
    shared = jax.shard_map(
        draw, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False
    )
    chex.assert_trees_all_close(jax.jit(shared)(flow, keys), jax.jit(draw)(flow, keys), atol=1e-5)


@pytest.mark.slow
def test_plain_functions_and_what_closes_over_arrays():
    plane, x0 = Euclidean((2,)), jnp.array([1.0, -2.0])
    integrate = jax.jit(lambda flow, x: flow.integrate(x, Integrator(1)))
    flow = Flow(plane, lambda t, x: 3 * x, prediction=VelocityPrediction())
    assert jax.tree.leaves(flow.field) == []
    np.testing.assert_allclose(integrate(flow, x0), 4 * x0)
    # A partial function of JAX has its arguments as leaves.
    scaled = jax.tree_util.Partial(lambda scale, t, x: scale * x, jnp.float32(3))
    flow = Flow(plane, scaled, prediction=VelocityPrediction())
    np.testing.assert_allclose(integrate(flow, x0), 4 * x0)
    slope = jax.grad(lambda flow: flow.integrate(x0, Integrator(1)).sum())(flow)
    np.testing.assert_allclose(jax.tree.leaves(slope.field), [x0.sum()])
    # One that closes over what is being traced serves inside that trace.
    inside = lambda s: Flow(plane, lambda t, x: s * x, prediction=VelocityPrediction())  # noqa: E731
    slope = jax.jit(jax.grad(lambda s: inside(s).integrate(x0, Integrator(1)).sum()))(3.0)
    np.testing.assert_allclose(slope, x0.sum())


def test_guided_flows_are_pytrees_too():
    goal, still = jnp.array([1.0, -2.0]), lambda t, x: jnp.zeros_like(x)
    flow = Flow(Euclidean((2,)), still, prediction=VelocityPrediction())

    def objective(goal, x, key):
        return ((x - goal) ** 2).sum() / 2

    to_goal = jax.tree_util.Partial(objective, goal)
    integrate = jax.jit(partial(Flow.integrate, integrator=Integrator(1)))
    for guide in (lambda x, key: objective(goal, x, key), to_goal):
        end = integrate(flow.guided(guide, 0.5, KEY), jnp.zeros(2))
        np.testing.assert_allclose(end, goal / 2)
