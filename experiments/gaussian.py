"""The Gaussian toy: how much of a distribution's spread sampling keeps, and why it may lose it.

python -m experiments.gaussian --config=configs/gaussian.py --workdir=runs/gaussian

A flow from N(0, 1) to N(1, 1) on the weights of a small network (Erdogan 2025, section 5.1), with
the ideal prediction E[x₁ | x_t] and a learned one. Both are integrated with the velocity
(x̂₁ - x_t) / (1 - t) and, as published, with x̂₁ - x₀, without and with noise.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from experiments.command import Config, main
from experiments.memory import BYTES, check_memory
from experiments.workdir import Workdir
from wfm.fields import RelationalTransformer
from wfm.flows import Field, Flow, GeodesicPath, Integrator, ScoreNoise, TangentNoise
from wfm.manifolds import Point
from wfm.training import flow_trainer, muon, progress_bar
from wfm.weights import AsTrained, mlp

CHUNK = 100
TITLES = {
    "velocity": "(x̂₁ - x) / (1 - t)",
    "displacement": "x̂₁ - x₀, as published",
    "score": "(x̂₁ - x) / (1 - t) and score noise",
}


def ideal(t: Array, x: Point) -> Point:
    """E[x₁ | x_t] for independent N(0, 1) → N(1, 1): linear in x_t (Bishop 2006, section 2.3)."""
    return jax.tree.map(lambda a: 1 + t * (a - t) / (t**2 + (1 - t) ** 2), x)


def by_displacement(
    flow: Flow, field: Field, key: Key[Array, ""], steps: int, noise: TangentNoise
) -> Point:
    """Euler steps of x̂₁ - x₀: not a function of (t, x), and so no flow."""
    x0 = flow.prior.sample(key)

    def step(x: Point, t: Array) -> tuple[Point, None]:
        noise_key = jax.random.fold_in(key, (t * steps).round().astype(int))
        x = noise.add(flow.space, t, x, noise_key)
        return jax.tree.map(lambda a, b, c: a + (b - c) / steps, x, field(t, x), x0), None

    return jax.lax.scan(step, x0, jnp.arange(steps) / steps)[0]


def ways(config: Config) -> dict[str, Callable[[Flow, Field, Key[Array, ""]], Point]]:
    """Ways to sample, by name: an integrand and a noise."""
    steps, epsilon = config.sampling.steps, config.sampling.noise
    how, score = Integrator(steps), ScoreNoise(config.sampling.rate)
    found: dict[str, Any] = {}
    for noise in (TangentNoise(0.0), TangentNoise(epsilon)):
        found[f"velocity, ε = {noise.scale}"] = lambda flow, field, key, e=noise: flow.sample(
            field, key, how, e
        )
        found[f"displacement, ε = {noise.scale}"] = lambda flow, field, key, e=noise: (
            by_displacement(flow, field, key, steps, e)
        )
    found["score"] = lambda flow, field, key: flow.sample(field, key, how, score)
    return found


def run(config: Config, path: str) -> None:
    """Train, sample in all ways, compare with N(1, 1)."""
    network = mlp(*config.widths)
    networks = config.training.data + config.sampling.networks
    check_memory({f"{networks} networks": BYTES * network.n_weights * networks})
    sampling = ways(config)
    workdir = Workdir(path, config)
    results = workdir.results("figures/gaussian.png") or _run(network, sampling, config, workdir)
    print(table(results["samples"]))
    print(f"Picture: {workdir / 'figures' / 'gaussian.png'}")


def table(samples: dict[str, dict[str, float]]) -> str:
    """Mean and spread of all weights, and spread of the networks' mean weights, as Markdown."""
    lines = ["| field | sampling | mean | std (true: 1) | std of network means (true: 1) |"]
    lines.append("|---|---|---|---|---|")
    for name, s in samples.items():
        field, way = name.split(": ")
        cells = f"{s['mean']:.3f} | {s['std']:.3f} | {s['std_of_means']:.3f}"
        lines.append(f"| {field} | {_title(way)} | {cells} |")
    return "\n".join(lines)


def _title(way: str) -> str:
    integrand, *rest = way.split(", ")
    return ", ".join([TITLES[integrand], *rest])


def _run(network: Any, sampling: dict, config: Config, workdir: Workdir) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(config.seed), 4)
    form = AsTrained(network)
    flow = Flow(form.manifold(), path=GeodesicPath(config.sigma))
    data_manifold = form.manifold(mean=1.0)
    data = jax.vmap(data_manifold.random)(jax.random.split(keys[0], config.training.data))
    field = RelationalTransformer(
        network,
        width=config.field.width,
        depth=config.field.depth,
        own_embedding=(),
        rngs=nnx.Rngs(keys[1]),
    )
    c = config.training
    trainer, bind, parameters = flow_trainer(
        flow, field, muon(c.learning_rate, c.steps), batch_size=c.batch_size, decay=c.decay
    )
    with workdir.stage("train"), progress_bar("Training", c.steps) as bar:

        def report(state: Any, metrics: dict[str, float]) -> None:
            workdir.metrics.write(step=int(state.step), **metrics)
            bar.update(int(state.step), f"loss {metrics['loss']:.4f}")

        state = trainer.init(parameters, keys[2])
        state = trainer.fit(state, data, c.steps, c.report_every, report)
    values: dict[str, np.ndarray] = {}
    with workdir.stage("sample"):
        draws = jax.random.split(keys[3], config.sampling.networks)
        for field_name, f in {"ideal": ideal, "learned": bind(state.average)}.items():
            for name, way in sampling.items():
                one = lambda key, way=way, f=f: way(flow, f, key)  # noqa: E731
                many = jax.jit(lambda ks, one=one: jax.lax.map(one, ks, batch_size=CHUNK))
                values[f"{field_name}: {name}"] = _rows(many(draws))
    _draw(workdir / "figures" / "gaussian.png", values)
    samples = {
        name: {
            "mean": float(x.mean()),
            "std": float(x.std(ddof=1)),
            "std_of_means": float(x.mean(1).std(ddof=1) * x.shape[1] ** 0.5),
        }
        for name, x in values.items()
    }
    return workdir.finish({"seed": config.seed, "samples": samples})


def _rows(points: Point) -> np.ndarray:
    """All weights of each network, as rows."""
    return np.concatenate([np.asarray(a).reshape(len(a), -1) for a in jax.tree.leaves(points)], 1)


def _draw(path: Any, values: dict[str, np.ndarray]) -> None:
    """Weights of all networks (above) and their means by network (below), beside the truth."""
    path.parent.mkdir(exist_ok=True)
    figure, grid = plt.subplots(2, 2, figsize=(10, 6.6), layout="constrained")
    n = next(iter(values.values())).shape[1]
    for column, field in enumerate(("ideal", "learned")):
        shown = [(np.ravel, 1, 40), (lambda x: x.mean(1), n**-0.5, 16)]
        for row, (of, sigma, bins) in enumerate(shown):
            ax, x = grid[row, column], np.linspace(1 - 4 * sigma, 1 + 4 * sigma, 200)
            density = np.exp(-(((x - 1) / sigma) ** 2) / 2) / sigma / (2 * np.pi) ** 0.5
            ax.fill_between(x, density, color="0.85", label="true")
            for name, v in values.items():
                if name.startswith(field):
                    heights, edges = np.histogram(of(v), bins, (x[0], x[-1]), density=True)
                    ax.stairs(heights, edges, label=_title(name.split(": ")[1]), linewidth=1.4)
            what = "weights" if row == 0 else "mean weight of each network"
            ax.set(title=f"{field} prediction", xlabel=what, ylabel="density")
    below: Any = "outside lower center"  # which the type stubs do not know
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc=below, ncols=3, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main(run)
