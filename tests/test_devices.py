"""Batches spread over the fake CPU devices of conftest.py give what one device gives."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.nnx import Rngs

from configs.base import small
from experiments.sampling import Sampling
from tests.cases import cases
from wfm.devices import device_mesh, mean_over, replicate, spread
from wfm.fields import MLPField, RelationalTransformer
from wfm.flows import Flow, FlowMatching, OptimalTransport
from wfm.tasks import load_task
from wfm.training import Trainer, flow_trainer
from wfm.weights import Canonical, mlp

KEY = jax.random.key(0)
FORM = Canonical(mlp(3, 4, 2))
MANIFOLD = FORM.manifold()
MATCHING = FlowMatching(MANIFOLD, coupling=OptimalTransport())
STEPS = 10
COMPILED = "/jax/core/compile/backend_compile_duration"


@functools.cache
def data():
    return jax.jit(jax.vmap(FORM.prior(0.3).sample))(jax.random.split(jax.random.key(1), 40))


def flat_field():
    return MLPField(FORM.prior().sample(KEY), width=8, depth=1, rngs=Rngs(0))


def graph_field():
    return RelationalTransformer(FORM.spec, width=8, depth=1, fold=True, rngs=Rngs(0))


def trained(field, **options):
    """Losses, and parameters and their average, after a few steps with optimal transport."""
    # Not Adam, which would blow rounding errors of tiny gradients up to whole steps.
    optimizer = optax.sgd(1e-2)
    trainer, _, params = flow_trainer(MATCHING, field(), optimizer, batch_size=16, **options)
    losses = []
    state = trainer.fit(
        trainer.init(params, KEY), data(), STEPS, 5, lambda _, m: losses.append(m["loss"])
    )
    return losses, state.params, state.ema


def test_a_mesh_has_as_many_devices_as_asked_for():
    assert device_mesh().size == jax.device_count() == 8
    assert device_mesh(3).size == 3
    for n in (0, -1, 9):
        with pytest.raises(ValueError, match=rf"^{n} devices asked for, but JAX sees 8 \(cpu\)"):
            device_mesh(n)


@pytest.mark.parametrize("n", [None, 1, 4])
def test_a_mean_over_devices_is_the_mean_over_rows(n):
    mesh = device_mesh(n) if n else None
    rows = {"a": jnp.arange(8.0), "b": jnp.arange(24.0).reshape(8, 3)}
    scaled = lambda scale, share: jax.tree.map(lambda a: (scale * a).mean(0), share)  # noqa: E731
    mean = jax.jit(mean_over(scaled, mesh))(2.0, rows)
    chex.assert_trees_all_close(mean, {"a": 7.0, "b": np.array([21.0, 23, 25])})


def test_devices_wait_once_for_arrays_of_any_precision():
    rows = {"a": jnp.arange(8.0), "b": jnp.arange(24.0, dtype=jnp.bfloat16).reshape(8, 3)}
    means = lambda _, share: jax.tree.map(lambda a: a.mean(0), share)  # noqa: E731
    mean = jax.jit(mean_over(means, device_mesh()))
    assert mean.lower(None, rows).as_text().count('all_reduce"') == 1
    found = mean(None, rows)
    assert found["b"].dtype == jnp.bfloat16
    assert found["b"].tolist() == [10.5, 11.5, 12.5]
    assert found["a"] == 3.5


@pytest.mark.parametrize("rows", [1, 5, 8, 13])
@pytest.mark.parametrize("out_axis", [0, 1])
def test_rows_that_do_not_divide_come_back_once_and_in_order(rows, out_axis):
    seen = []

    def f(tree, keys):
        seen.append(len(keys))
        noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
        out = {"sum": tree["a"][:, None] + noise, "b": jnp.sin(tree["b"])}
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, out_axis), out)

    tree = {"a": jnp.arange(float(rows)), "b": jnp.arange(2.0 * rows).reshape(rows, 2)}
    keys = jax.random.split(KEY, rows)
    shared = jax.jit(spread(f, device_mesh(), out_axis))(tree, keys)
    assert seen == [-(-rows // 8)]
    chex.assert_trees_all_close(shared, spread(f, None, out_axis)(tree, keys), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("field", [flat_field, graph_field])
def test_training_on_many_devices_is_training_on_one(field):
    alone = trained(field)
    for n, microbatch in (
        ((1, 4), (2, None), (4, 1), (8, 2)) if field is flat_field else ((8, None),)
    ):
        chex.assert_trees_all_close(
            trained(field, mesh=device_mesh(n), microbatch=microbatch), alone, rtol=1e-4, atol=1e-5
        )


def mean_trainer(**options):
    def loss(params, example):
        row, key = example
        return ((row + jax.random.normal(key, row.shape) - params) ** 2).mean()

    return Trainer(loss, optax.sgd(0.1), **({"mesh": device_mesh()} | options))


@pytest.mark.parametrize(
    "microbatch", cases({str(n): n for n in (1, 2, 4, 5, 16, 100)}, often=("1", "5", "100"))
)
@pytest.mark.parametrize("n", [None, 2])
def test_gradients_of_any_number_at_once_are_the_same(n, microbatch):
    rows = jax.random.normal(KEY, (40, 2))

    def after(**options):
        trainer = mean_trainer(batch_size=16, **options)
        return trainer.fit(trainer.init(jnp.zeros(2), KEY), rows, STEPS).params

    shared = after(microbatch=microbatch, mesh=device_mesh(n) if n else None)
    chex.assert_trees_all_close(shared, after(mesh=None), rtol=1e-5)


@pytest.mark.parametrize(("microbatch", "parts"), [(None, 1), (1, 6), (4, 2), (5, 2), (100, 1)])
def test_a_share_of_six_is_cut_into_equal_parts_no_larger_than_asked_for(microbatch, parts):
    trainer = mean_trainer(batch_size=48, microbatch=microbatch)
    state, data = trainer.init(jnp.zeros(2), KEY), jnp.zeros((40, 2))
    jaxpr = str(jax.make_jaxpr(lambda s: trainer.advance(s, data, 7))(state))
    assert set(re.findall(r"length=(\d+)", jaxpr)) == {"7", str(parts)} - {"1"}


def test_a_batch_that_does_not_divide_is_refused():
    text = "a batch of 20 does not divide among 8 devices; take batch_size 24 or fewer devices"
    with pytest.raises(ValueError, match=text):
        mean_trainer(batch_size=20)
    with pytest.raises(ValueError, match="microbatch must be at least 1, got 0"):
        mean_trainer(batch_size=16, microbatch=0)


def test_nothing_is_compiled_or_transferred_after_the_first_chunk():
    trainer = mean_trainer(batch_size=16)
    data = jax.random.normal(KEY, (40, 2))
    state, data = replicate((trainer.init(jnp.zeros(2), KEY), data), trainer.mesh)
    state, _ = trainer.advance(state, data, 5)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event) if event == COMPILED else None
    )
    try:
        with jax.transfer_guard("disallow"):
            state, metrics = trainer.advance(state, data, 5)
        assert not compiled
        assert all(a.sharding.is_fully_replicated for a in jax.tree.leaves((state, metrics)))
        jax.block_until_ready(jax.jit(lambda a: a + 17)(metrics["loss"]))
        assert compiled  # so that the listener hears at all
    finally:
        jax.monitoring.clear_event_listeners()


@pytest.mark.slow
def test_eight_devices_draw_the_networks_of_one():
    task, form = load_task("iris"), Canonical(mlp(4, 5, 3))
    config = small()
    config.sampling.update({"networks": 13, "steps": 4, "chunk": 2, "noise": 0.05})
    field = lambda t, x: jax.tree.map(lambda a: jnp.sin(3 * a) + t, x)  # noqa: E731
    flow = Flow(form.manifold(), field, prior=form.prior(0.3))
    one, eight = (
        Sampling.of(config, form, task.train, mesh).sampler(flow, form)(KEY)
        for mesh in (None, device_mesh())
    )
    assert all(len(array) == 13 for array in eight.values())
    chex.assert_trees_all_close(one, eight, atol=1e-5)
