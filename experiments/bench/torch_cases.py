"""The timed cases of PyTorch: one per function, with arguments that JSON can hold."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import Tensor, nn

from experiments.bench.clock import peak_mb, timed
from experiments.bench.torch_field import DenseTransformer
from wfm.fields import FullTransformer
from wfm.manifolds import Sphere
from wfm.tasks import load_task
from wfm.weights import mlp

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHORTEST = 5e-3  # minimum seconds for a measurement
Figures = dict[str, Any]


def _field(
    widths: Sequence[int], width: int, depth: int, compiled: bool, threads: int
) -> tuple[DenseTransformer, Callable[..., dict[str, Tensor]], dict[str, tuple[int, ...]]]:
    """The field, its caller, and the shapes of a network's arrays."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.set_default_device(DEVICE)
    torch.manual_seed(0)
    spec = mlp(*widths)
    field = DenseTransformer(FullTransformer(spec, width=width, depth=depth, rngs=nnx.Rngs(0)))
    field.to(DEVICE)
    call = torch.compile(field) if compiled else field
    return field, call, {name: spec.shape(name) for name in spec.arrays}


def training(
    widths: Sequence[int], width: int, depth: int, batch: int, compiled: bool, threads: int
) -> Figures:
    """One training step of a flow between networks: end-point prediction, clipping, Adam."""
    field, call, shapes = _field(widths, width, depth, compiled, threads)
    x1 = {name: torch.randn(batch, *shape) for name, shape in shapes.items()}
    times = torch.distributions.Beta(1.0, 2.0)
    adam = torch.optim.Adam(field.parameters(), 1e-3)

    def step() -> None:
        t = times.sample((batch,))
        at = {n: t.reshape(-1, *[1] * (a.dim() - 1)) for n, a in x1.items()}
        x = {n: (1 - at[n]) * torch.randn_like(a) + at[n] * a for n, a in x1.items()}
        out = call(t, x)
        loss = sum(((out[n] - a) ** 2).sum() for n, a in x1.items()) / batch
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(field.parameters(), 1.0)
        adam.step()

    return _with_memory(step)


def sampling(
    widths: Sequence[int],
    width: int,
    depth: int,
    networks: int,
    steps: int,
    compiled: bool,
    threads: int,
) -> Figures:
    """Euler steps from the prior to new networks; the end point gives the velocity."""
    _, call, shapes = _field(widths, width, depth, compiled, threads)

    @torch.inference_mode()
    def draw() -> None:
        x = {name: torch.randn(networks, *shape) for name, shape in shapes.items()}
        for k in range(steps):
            out = call(torch.full((networks,), k / steps), x)
            x = {n: a + (out[n] - a) / (steps - k) for n, a in x.items()}

    return _with_memory(draw)


def _with_memory(work: Callable[[], None]) -> Figures:
    """Times and process memory, because PyTorch does not count its arrays on a CPU."""
    before = peak_mb()

    def done() -> None:
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return {"seconds": timed(done), "peak_mb": peak_mb(), "buffers_mb": peak_mb() - before}


def zoo(
    task: str, hidden: Sequence[int], networks: int, epochs: int, batch_size: int, threads: int
) -> Figures:
    """Training base networks one after another, in the usual loop."""
    torch.set_num_threads(threads)
    data = load_task(task)
    x = torch.from_numpy(np.array(data.train.x, np.float32))
    y = torch.from_numpy(np.array(data.train.y)).long()
    sizes = [x.shape[1], *hidden, data.n_classes]

    def train_one() -> None:
        layers = [m for n, k in pairwise(sizes) for m in (nn.Linear(n, k), nn.ReLU())]
        network = nn.Sequential(*layers[:-1])
        adam = torch.optim.Adam(network.parameters(), 1e-3)
        for _ in range(epochs):
            order = torch.randperm(len(x))
            for start in range(0, len(x) - batch_size + 1, batch_size):
                rows = order[start : start + batch_size]
                adam.zero_grad()
                nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
                adam.step()

    def train_all() -> None:
        for _ in range(networks):
            train_one()

    return {"seconds": timed(train_all, repeats=3), "networks": networks}


def manifold(n: int, dim: int) -> Figures:
    """Operations on the sphere for `n` points: ns per point, by geoopt and by this code."""
    rng = np.random.default_rng(0)
    x, y, v = (rng.normal(size=(n, dim)).astype(np.float32) for _ in range(3))
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    v -= (x * v).sum(1, keepdims=True) * x
    import geoopt  # only here: the other cases run without it

    theirs, ours = geoopt.Sphere(), Sphere((dim,))
    tx, ty, tv = (torch.from_numpy(a) for a in (x, y, v))
    jx, jy, jv = (jnp.asarray(a) for a in (x, y, v))
    work = {
        "exp": (lambda: theirs.expmap(tx, tv), ours.exp, (jx, jv)),
        "log": (lambda: theirs.logmap(tx, ty), ours.log, (jx, jy)),
        "dist": (lambda: theirs.dist(tx, ty), ours.dist, (jx, jy)),
        "project": (lambda: theirs.projx(tv), ours.project, (jv,)),
    }
    found = {}
    for name, (geoopt_work, operation, args) in work.items():
        run = partial(jax.jit(jax.vmap(operation)), *args)
        found[f"{name}_geoopt_ns"] = _nanoseconds(geoopt_work) / n
        found[f"{name}_wfm_ns"] = _nanoseconds(lambda run=run: jax.block_until_ready(run())) / n
    return found


def _nanoseconds(work: Callable[[], Any]) -> float:
    """Median time of one call, from measurements that are long enough."""
    work()
    start = time.perf_counter()
    work()
    calls = 1 + int(SHORTEST / max(time.perf_counter() - start, 1e-7))

    def many() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - start) / calls

    return 1e9 * statistics.median(many() for _ in range(5))
