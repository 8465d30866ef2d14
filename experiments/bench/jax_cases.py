"""The timed cases of this code: one per function, with arguments that JSON can hold."""

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.bench.clock import peak_mb, timed
from experiments.bench.flops import matmul_rate, product_flops, product_seconds
from experiments.build import COUPLINGS, matchings
from wfm.batching import map_batched
from wfm.devices import device_mesh, replicate, spread
from wfm.fields import FullTransformer, GraphField, RelationalTransformer, functional
from wfm.flows import Flow, FlowMatching, Hutchinson, Integrator
from wfm.tasks import load_task
from wfm.training import Trainer, adam, flow_trainer
from wfm.weights import AsTrained, Canonical, Weights, align_all, mlp
from wfm.zoo import Schedule, train_zoo

ATTENTION: dict[str, type[GraphField]] = {"graph": RelationalTransformer, "full": FullTransformer}

Figures = dict[str, Any]


def _key() -> jax.Array:
    return jax.random.key(0)  # not made when this is imported, which would start JAX


class _Setting:
    """Flow matching of networks, and a field for it."""

    def __init__(
        self,
        widths: Sequence[int],
        width: int,
        depth: int,
        attention: str = "graph",
        fold: bool = False,
        dtype: str = "float32",
    ):
        self.spec, self.dtype = mlp(*widths), jnp.dtype(dtype)
        self.matching = FlowMatching(AsTrained(self.spec).manifold())
        self.module = ATTENTION[attention](
            self.spec, width=width, depth=depth, fold=fold, dtype=self.dtype, rngs=nnx.Rngs(0)
        )
        self.mesh = device_mesh() if jax.device_count() > 1 else None

    @property
    def flow(self) -> Flow:
        """The flow before training."""
        bind, params = functional(self.module)
        return self.matching.flow(bind(params))

    def networks(self, n: int) -> Weights:
        return jax.vmap(self.matching.prior.sample)(jax.random.split(_key(), n))


def device() -> Figures:
    """Rates of large products in each precision, and memory."""
    rates = {}
    for name in ("float32", "tensorfloat32"):
        with jax.default_matmul_precision(name):
            rates[name] = matmul_rate()
    rates["bfloat16"] = matmul_rate(jnp.bfloat16)
    memory = jax.devices()[0].memory_stats() or {}  # none on a CPU
    return {"rate": rates, "memory_gb": memory.get("bytes_limit", math.nan) / 1e9}


def _stepping(s: _Setting, batch: int, microbatch: int) -> tuple[Trainer, Any, Weights]:
    """A trainer, its first state, and data, on all devices."""
    trainer, _, params = flow_trainer(
        s.matching, s.module, adam(1e-3, 100), batch_size=batch, microbatch=microbatch, mesh=s.mesh
    )
    return trainer, *replicate((trainer.init(params, _key()), s.networks(batch)), s.mesh)


def training(batch: int, microbatch: int, steps: int = 1, **setting: Any) -> Figures:
    """Training steps, several per call; also the matrix products that one step needs."""
    s = _Setting(**setting)
    trainer, state, data = _stepping(s, batch, microbatch)
    seconds = timed(lambda: jax.block_until_ready(trainer.advance(state, data, steps)))
    whole = Trainer(trainer.loss, trainer.optimizer, trainer.examples, batch)
    advance: Any = Trainer.advance
    return {
        "seconds": {name: s if name == "first" else s / steps for name, s in seconds.items()},
        "peak_mb": peak_mb(),
        "buffers_mb": _buffers_mb(advance.lower(trainer, state, data, steps).lowered),
        "weights": s.spec.n_weights,
        "product_flops": product_flops(lambda state: whole.advance(state, data, 1), state),
        "matmul_rate": matmul_rate(s.dtype),
    }


def roofline(batch: int, microbatch: int, **setting: Any) -> Figures:
    """A training step on one core, and its matrix products alone, each as the step has it."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX starts its threads
    found = training(batch, microbatch, **setting)
    trainer, state, data = _stepping(_Setting(**setting), batch, microbatch)
    return found | {
        "product_seconds": product_seconds(lambda x: trainer.advance(x, data, 1), state)
    }


def sampling(networks: int, steps: int, at_once: int, **setting: Any) -> Figures:
    """Euler steps from the prior to new networks."""
    s = _Setting(**setting)
    how = Integrator(steps)

    def some(keys: jax.Array) -> Weights:
        draw = partial(s.flow.sample, integrator=how)
        return map_batched(draw, keys, at_once)

    draw, keys = jax.jit(spread(some, s.mesh)), jax.random.split(_key(), networks)
    one = jax.tree.map(lambda a: a[0], s.networks(1))
    seconds = timed(lambda: jax.block_until_ready(draw(keys)))
    return {
        "seconds": seconds,
        "peak_mb": peak_mb(),
        "buffers_mb": _buffers_mb(draw.lower(keys)),
        "product_flops": networks * steps * product_flops(s.flow.field, jnp.zeros(()), one),
        "matmul_rate": matmul_rate(s.dtype),
    }


def _buffers_mb(lowered: Any) -> float:
    """Size of arguments, results and temporary arrays of a computation, on each device."""
    m = lowered.compile().memory_analysis()
    used = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
    return used / 2**20


def densities(networks: int, steps: int, at_once: int, **setting: Any) -> Figures:
    """Log-densities of networks, with one Hutchinson probe each."""
    s = _Setting(**setting)

    def one(pair: tuple[Weights, jax.Array]) -> jax.Array:
        x, key = pair
        return s.flow.log_prob(x, Integrator(steps), Hutchinson(), key)

    all_of_them = jax.jit(lambda pairs: map_batched(one, pairs, at_once))
    pairs = s.networks(networks), jax.random.split(_key(), networks)
    return {"seconds": timed(lambda: jax.block_until_ready(all_of_them(pairs)))}


def zoo(task: str, hidden: Sequence[int], networks: int, epochs: int, batch_size: int) -> Figures:
    """Training base networks in bulk."""
    data = load_task(task)
    spec = mlp(*data.input_shape, *hidden, data.n_classes)
    initial = jax.vmap(AsTrained(spec).prior(0.1).sample)(jax.random.split(_key(), networks))
    steps = epochs * (len(data.train) // batch_size)
    schedule = Schedule(epochs, batch_size, 0, steps)
    run = lambda: jax.block_until_ready(  # noqa: E731
        train_zoo(spec, data, initial, optax.adam(1e-3), _key(), schedule).weights
    )
    # Each call is a new computation, so only a program cache separates out compilation.
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        return {"seconds": timed(run, repeats=3), "networks": networks, "peak_mb": peak_mb()}


def coupling(name: str, widths: Sequence[int], batch: int) -> Figures:
    """Pairing a batch with as many draws from the prior, including drawing them."""
    s = _Setting(widths, 4, 1)
    pair = jax.jit(
        partial(COUPLINGS[name].coupling(s.spec).pair, s.matching.space, s.matching.prior)
    )
    x = s.networks(batch)
    return {"seconds": timed(lambda: jax.block_until_ready(pair(x, _key())))}


def alignment(name: str, task: str, hidden: Sequence[int], networks: int) -> Figures:
    """Aligning untrained networks to another one."""
    data = load_task(task)
    spec = mlp(*data.input_shape, *hidden, data.n_classes)
    form = Canonical(spec)
    draw: Callable = AsTrained(spec).prior(0.1).sample
    points = jax.jit(jax.vmap(lambda key: form.encode(draw(key))))(
        jax.random.split(_key(), networks + 1)
    )
    one, others = (jax.tree.map(lambda a, s=s: a[s], points) for s in (0, slice(1, None)))
    matching = matchings(form.spec, data)[name]
    assert matching is not None, name
    run = lambda: jax.block_until_ready(align_all(form.spec, one, others, matching))  # noqa: E731
    return {"seconds": timed(run), "networks": networks}
