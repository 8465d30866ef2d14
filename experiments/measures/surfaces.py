"""A mixture of unequal bumps on a sphere, a torus or the hyperbolic plane, learned by a flow.

The flow is the same that learns weights; only the manifold and the field differ. A new manifold
needs one line in `SURFACES` (see docs/extending.md).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from experiments import plots
from experiments.command import Config, choose
from experiments.log import progress_bar
from experiments.measures.base import Point
from experiments.records import Figures
from experiments.stages import Run
from wfm.draws import normal_like
from wfm.fields import MLPField
from wfm.flows import FlowMatching, Integrator, VelocityPrediction, rk4
from wfm.manifolds import Hyperboloid, Manifold, Sphere, Torus
from wfm.priors import Prior, standard
from wfm.training import flow_trainer, muon

SHARES = jnp.array([0.5, 0.3, 0.2])
BINS = (8, 16)
DISK_PIXELS = 96
DOTS = 5000


@dataclasses.dataclass(frozen=True)
class Surface:
    """A two-dimensional manifold, and how to present it to a network and to a person."""

    manifold: Manifold
    # What the network reads from a point: periodic functions of angles.
    coordinates: Callable[[Array], Array]
    # Two coordinates that preserve area, with their ranges, for histograms.
    chart: Callable[[Array], Array]
    ranges: tuple[tuple[float, float], tuple[float, float]]
    labels: tuple[str, str]
    # The map to a disk of radius 1, and its inverse, for pictures of the density.
    disk: tuple[Callable[[Array], Array], Callable[[Array], Array]] | None = None


SURFACES = {
    "sphere": Surface(
        Sphere((3,)),
        coordinates=lambda x: x,
        chart=lambda x: jnp.stack([x[..., 2], jnp.arctan2(x[..., 1], x[..., 0])], -1),
        ranges=((-1, 1), (-math.pi, math.pi)),
        labels=("height", "longitude"),
    ),
    "torus": Surface(
        Torus((2,)),
        coordinates=lambda x: jnp.concatenate([jnp.cos(x), jnp.sin(x)]),
        chart=lambda x: x,
        ranges=((-math.pi, math.pi), (-math.pi, math.pi)),
        labels=("first angle", "second angle"),
    ),
    "hyperboloid": Surface(
        Hyperboloid(2),
        # The network reads the point in Poincaré's disk, which is bounded.
        coordinates=lambda x: to_disk(x),
        chart=lambda x: jnp.stack([x[..., 0], jnp.arctan2(x[..., 2], x[..., 1])], -1),
        ranges=((1, 5), (-math.pi, math.pi)),
        labels=("cosh of the distance to the origin", "direction"),
        disk=(lambda x: to_disk(x), lambda p: from_disk(p)),
    ),
}


def to_disk(x: Array) -> Array:
    """Points of the hyperboloid, mapped to the Poincaré disk."""
    return x[..., 1:] / (1 + x[..., :1])


def from_disk(p: Array) -> Array:
    """The points of the hyperboloid that correspond to `p` in the Poincaré disk."""
    square = jnp.sum(p**2, -1, keepdims=True)
    return jnp.concatenate([1 + square, 2 * p], -1) / (1 - square)


def _prior(manifold: Manifold) -> Prior:
    """The prior, from which paths start and centres are drawn."""
    return standard(manifold, std=0.7)


def mixture(manifold: Manifold, spread: float, n: int, key: Key[Array, ""]) -> Float[Array, "n d"]:
    """Draws of Gaussian tangent steps from three fixed random centres with unequal shares."""
    centres = jax.vmap(_prior(manifold).sample)(jax.random.split(jax.random.key(4), len(SHARES)))

    def draw(key: Array) -> Array:
        choice, noise = jax.random.split(key)
        centre = centres[jax.random.choice(choice, len(SHARES), p=SHARES)]
        return manifold.exp(centre, spread * manifold.frame(centre, normal_like(noise, centre)))

    return jax.jit(jax.vmap(draw))(jax.random.split(key, n))


def histogram(surface: Surface, points: Array) -> np.ndarray:
    """Share of the points in each of equal-area bins."""
    u, v = np.asarray(surface.chart(points)).T
    counts, _, _ = np.histogram2d(u, v, BINS, surface.ranges)
    return counts / len(points)


def learn(
    surface: Surface, config: Config, report: Callable[[int, float], None]
) -> tuple[Array, Array, Callable[[Array], Array]]:
    """Data, as many samples as configured from a flow trained on them, and its log-density."""
    keys = jax.random.split(jax.random.key(config.seed), 4)
    data = mixture(surface.manifold, config.data.spread, config.data.points, keys[0])
    # Velocities, because a flow needs their mean; end points have none on a closed surface.
    matching = FlowMatching(
        surface.manifold, prior=_prior(surface.manifold), prediction=VelocityPrediction()
    )
    field = MLPField(
        data[0],
        width=config.width,
        depth=config.depth,
        coordinates=surface.coordinates,
        rngs=nnx.Rngs(keys[1]),
    )
    c = config.training
    trainer, bind, params = flow_trainer(
        matching,
        field,
        muon(c.learning_rate, c.steps),
        batch_size=c.batch_size,
        ema_decay=c.ema_decay,
    )
    state = trainer.fit(
        trainer.init(params, keys[2]),
        data,
        c.steps,
        c.report_every,
        lambda state, metrics: report(int(state.step), metrics["loss"]),
    )
    how = Integrator(config.sampling.steps)
    flow = matching.flow(bind(state.ema))
    one = lambda key: flow.sample(key, how)  # noqa: E731
    samples = jax.jit(jax.vmap(one))(jax.random.split(keys[3], config.sampling.points))
    fine = Integrator(16, rk4)
    log_prob = jax.vmap(lambda x: flow.log_prob(x, fine))
    return data, samples, jax.jit(log_prob)


@lru_cache(maxsize=1)
def _learned(run: Run) -> tuple[Array, Array, Callable[[Array], Array]]:
    c, surface = run.config, SURFACES[run.config.manifold]
    with progress_bar("Training", c.training.steps) as bar:
        return learn(surface, c, lambda step, loss: bar.update(step, f"loss {loss:.4f}"))


def check(run: Run) -> None:
    """Refuse unknown manifolds."""
    choose(SURFACES, "manifold", run.config.manifold)


def points(run: Run) -> Iterator[Point]:
    """Total variation distance to the data, in bins of equal area, and pictures."""
    yield Point({"points": "samples"}, partial(_figures, run))
    yield Point({"points": "uniform"}, partial(_uniform, run))


def _figures(run: Run, folder: Path) -> Figures:
    surface = SURFACES[run.config.manifold]
    data, samples, log_prob = _learned(run)
    true, found = histogram(surface, data), histogram(surface, samples)
    top = max(true.max(), found.max())
    shown = {"data": true, "samples": found}
    plots.row(
        [partial(_bins, surface=surface, title=t, h=h, top=top) for t, h in shown.items()],
        folder / "density.png",
    )
    if surface.disk:
        _draw_disk(folder / "disk.png", surface.disk, {"data": data, "samples": samples}, log_prob)
    return {"total_variation": float(abs(found - true).sum() / 2)}


def _uniform(run: Run, folder: Path) -> Figures:
    true = histogram(SURFACES[run.config.manifold], _learned(run)[0])
    return {"total_variation": float(abs(1 / math.prod(BINS) - true).sum() / 2)}


def _bins(axes: Axes, surface: Surface, title: str, h: np.ndarray, top: float) -> None:
    (u0, u1), (v0, v1) = surface.ranges
    axes.imshow(h, extent=(v0, v1, u0, u1), origin="lower", aspect="auto", vmin=0, vmax=top)
    axes.set(title=title, xlabel=surface.labels[1], ylabel=surface.labels[0])


def _draw_disk(
    path: Path,
    disk: tuple[Callable[[Array], Array], Callable[[Array], Array]],
    points: dict[str, Array],
    log_prob: Callable[[Array], Array],
) -> None:
    """Dots of data and samples, and the learned density with respect to the manifold's volume."""
    to, back = disk
    line = np.linspace(-1, 1, 2 * DISK_PIXELS + 1)[1::2]
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    inside = (grid**2).sum(1) < 0.99
    density = np.full(len(grid), np.nan)
    density[inside] = np.exp(log_prob(back(jnp.array(grid[inside], jnp.float32))))
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.8), layout="constrained")
    for ax, (title, x) in zip(axes[:2], points.items(), strict=True):
        ax.scatter(*np.asarray(to(x[:DOTS])).T, s=2, alpha=0.3, linewidths=0)
        ax.set(title=title)
    shape = (DISK_PIXELS, DISK_PIXELS)
    image = axes[2].imshow(density.reshape(shape), extent=(-1, 1, -1, 1), origin="lower", vmin=0)
    axes[2].set(title="learned density")
    figure.colorbar(image, ax=axes[2], label="per unit of hyperbolic area")
    for ax in axes:
        ax.add_patch(Circle((0, 0), 1, fill=False, color="grey"))
        ax.set(aspect="equal", xlim=(-1.02, 1.02), ylim=(-1.02, 1.02))
        ax.axis("off")
    plots.save(figure, path)
