"""The Gaussian toy: how much of a distribution's spread sampling keeps, and why it may lose some.

A flow from N(0, 1) to N(1, 1) on the weights of a small network (Erdogan 2025, section 5.1), with
the ideal prediction E[x₁ | x_t] and a learned one. Both are integrated with the velocity
(x̂₁ - x_t) / (1 - t) and, as published, with x̂₁ - x₀, both without and with noise.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Key
from matplotlib.axes import Axes

from experiments import plots
from experiments.command import Config
from experiments.log import progress_bar
from experiments.measures.base import Point
from experiments.memory import BYTES, check_memory
from experiments.records import Figures
from experiments.stages import Run
from wfm.batching import map_batched
from wfm.fields import RelationalTransformer
from wfm.flows import Flow, FlowMatching, GeodesicPath, Integrator, ScoreNoise, TangentNoise
from wfm.manifolds import Point as Place
from wfm.training import flow_trainer, muon
from wfm.weights import AsTrained, mlp

CHUNK = 100
FIELDS = ("ideal", "learned")
VELOCITY, DISPLACEMENT = "(x̂₁ - x) / (1 - t)", "x̂₁ - x₀, as published"


def check(run: Run) -> None:
    """Refuse more networks than the machine holds."""
    c, network = run.config, mlp(*run.config.widths)
    networks = c.training.data + c.sampling.networks
    check_memory({f"{networks} networks": BYTES * network.n_weights * networks})


def points(run: Run) -> Iterator[Point]:
    """Mean and spread of all weights, spread of the networks' mean weights, and a picture."""
    for field in FIELDS:
        for way in ways(run.config):
            yield Point({"field": field, "sampling": way}, partial(_figures, run, field, way))
    yield Point({}, partial(_draw, run))


def ideal(t: Array, x: Place) -> Place:
    """E[x₁ | x_t] for independent N(0, 1) → N(1, 1): linear in x_t (Bishop 2006, section 2.3)."""
    return jax.tree.map(lambda a: 1 + t * (a - t) / (t**2 + (1 - t) ** 2), x)


def by_displacement(flow: Flow, key: Key[Array, ""], steps: int, noise: TangentNoise) -> Place:
    """Euler steps with x̂₁ - x₀, which is not a function of (t, x), so it is not a flow."""
    x0 = flow.prior.sample(key)

    def step(x: Place, t: Array) -> tuple[Place, None]:
        noise_key = jax.random.fold_in(key, (t * steps).round().astype(int))
        x = noise.add(flow.space, t, x, noise_key)
        return jax.tree.map(lambda a, b, c: a + (b - c) / steps, x, flow.field(t, x), x0), None

    return jax.lax.scan(step, x0, jnp.arange(steps) / steps)[0]


def ways(config: Config) -> dict[str, Callable[[Flow, Key[Array, ""]], Place]]:
    """Ways to sample, by name: an integrand and a noise."""
    steps, epsilon = config.sampling.steps, config.sampling.noise
    how, score = Integrator(steps), ScoreNoise(config.sampling.rate)
    found: dict[str, Any] = {}
    for noise in (TangentNoise(0.0), TangentNoise(epsilon)):
        found[f"{VELOCITY}, ε = {noise.scale}"] = lambda flow, key, e=noise: flow.sample(
            key, how, e
        )
        found[f"{DISPLACEMENT}, ε = {noise.scale}"] = lambda flow, key, e=noise: by_displacement(
            flow, key, steps, e
        )
    found[f"{VELOCITY} and score noise"] = lambda flow, key: flow.sample(key, how, score)
    return found


@lru_cache(maxsize=1)
def _flows(run: Run) -> dict[str, Flow]:
    c, keys = run.config, _keys(run)
    network = mlp(*c.widths)
    form = AsTrained(network)
    matching = FlowMatching(form.manifold(), path=GeodesicPath(c.sigma))
    draw = form.prior(mean=1.0).sample
    data = jax.vmap(draw)(jax.random.split(keys[0], c.training.data))
    field = RelationalTransformer(
        network,
        width=c.field.width,
        depth=c.field.depth,
        own_embedding=(),
        rngs=nnx.Rngs(keys[1]),
    )
    t = c.training
    trainer, bind, params = flow_trainer(
        matching,
        field,
        muon(t.learning_rate, t.steps),
        batch_size=t.batch_size,
        ema_decay=t.ema_decay,
    )
    with progress_bar("Training", t.steps) as bar:

        def report(state: Any, metrics: dict[str, float]) -> None:
            bar.update(int(state.step), f"loss {metrics['loss']:.4f}")

        state = trainer.init(params, keys[2])
        state = trainer.fit(state, data, t.steps, t.report_every, report)
    return {"ideal": matching.flow(ideal), "learned": matching.flow(bind(state.ema))}


def _keys(run: Run) -> Key[Array, " 4"]:
    return jax.random.split(jax.random.key(run.config.seed), 4)


@lru_cache(maxsize=16)
def _values(run: Run, field: str, way: str) -> np.ndarray:
    """All weights of each sample, as rows."""
    flow, how = _flows(run)[field], ways(run.config)[way]
    draws = jax.random.split(_keys(run)[3], run.config.sampling.networks)
    many = jax.jit(lambda keys: map_batched(lambda key: how(flow, key), keys, CHUNK))
    arrays = jax.tree.leaves(many(draws))
    return np.concatenate([np.asarray(a).reshape(len(a), -1) for a in arrays], 1)


def _figures(run: Run, field: str, way: str, folder: Path) -> Figures:
    x = _values(run, field, way)
    return {
        "mean": float(x.mean()),
        "std": float(x.std(ddof=1)),
        "std_of_means": float(x.mean(1).std(ddof=1) * x.shape[1] ** 0.5),
    }


def _draw(run: Run, folder: Path) -> Figures:
    """Draw the weights of all networks, and the means per network, beside the truth."""
    n = mlp(*run.config.widths).n_weights
    shown = [("weights", np.ravel, 1.0, 40)]
    shown += [("mean weight of each network", lambda x: x.mean(1), n**-0.5, 16)]
    panels = [
        partial(_panel, run=run, field=field, what=what, of=of, sigma=sigma, bins=bins)
        for field in FIELDS
        for what, of, sigma, bins in shown
    ]
    plots.row(panels, folder / "gaussian.png")
    return {}


def _panel(
    axes: Axes, run: Run, field: str, what: str, of: Callable, sigma: float, bins: int
) -> None:
    x = np.linspace(1 - 4 * sigma, 1 + 4 * sigma, 200)
    density = np.exp(-(((x - 1) / sigma) ** 2) / 2) / sigma / (2 * np.pi) ** 0.5
    axes.fill_between(x, density, color="0.85", label="true")
    for way in ways(run.config):
        values = of(_values(run, field, way))
        heights, edges = np.histogram(values, bins, (x[0], x[-1]), density=True)
        axes.stairs(heights, edges, label=way, linewidth=1.4)
    axes.set(title=f"{field} prediction", xlabel=what, ylabel="density")
    axes.legend(fontsize=6)
