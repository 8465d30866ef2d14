"""Pictures of a run."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from sklearn.decomposition import PCA

from experiments import plots
from experiments.log import MetricsLog
from experiments.measures.base import Point
from experiments.measures.quality import sets_of
from experiments.measures.together import SETS, aligned, average_accuracy
from experiments.records import Figures
from experiments.stages import Run
from wfm.batching import first_rows
from wfm.evaluation import stack_flat

SHOWN = 4  # networks per set whose filters are drawn
COLORS = {"zoo": "#4c72b0", "trained": "#4c72b0", "held out": "#222222", "samples": "#dd8452"}
MARKERS = {"zoo": ".", "held out": "x", "samples": "o"}  # from bottom to top


def _drawn(name: str, draw: Callable[[Axes], None]) -> Point:
    def make(folder: Path) -> Figures:
        plots.single(draw, folder / f"{name}.png")
        return {}

    return Point({}, make)


def overview(run: Run) -> Iterator[Point]:
    """Accuracy and loss of trained and of sampled networks, and a map of their weights."""

    def make(folder: Path) -> Figures:
        panels = {
            "accuracy": lambda axes: _histogram(axes, run, "accuracy"),
            "loss": lambda axes: _histogram(axes, run, "loss"),
            "map": lambda axes: _map(axes, run),
        }
        plots.row(list(panels.values()), folder / "overview.png")
        return {}

    yield Point({}, make)


def loss_curve(run: Run) -> Iterator[Point]:
    """The loss of the flow in training and on held-out networks."""

    def draw(axes: Axes) -> None:
        entry = run.store.place("train", run.reads["train"])
        steps = MetricsLog(entry / "metrics.jsonl").read()
        judged = [r for r in steps if "validation_loss" in r]
        x, y = ([r[key] for r in steps] for key in ("step", "loss"))
        axes.plot(x, y, color=COLORS["samples"], label="in training")
        x, y = ([r[key] for r in judged] for key in ("step", "validation_loss"))
        style = {"markersize": 4, "zorder": 3, "color": COLORS["held out"]}
        axes.plot(x, y, "o", label="on held-out networks", **style)
        axes.set(xlabel="step", ylabel="loss", yscale="log")
        axes.legend()

    yield _drawn("loss", draw)


def averages(run: Run) -> Iterator[Point]:
    """Accuracy of predictions averaged over networks."""

    def draw(axes: Axes) -> None:
        sizes = sorted(run.config.averages)
        for name in SETS:
            curve = [average_accuracy(run, name, n) for n in sizes]
            axes.plot(sizes, curve, "o-", color=COLORS[name], label=name)
        axes.set(xlabel="networks averaged", ylabel="test accuracy", xscale="log")
        axes.set(xticks=sizes, xticklabels=sizes)
        axes.minorticks_off()
        axes.legend()

    yield _drawn("averages", draw)


def filters(run: Run) -> Iterator[Point]:
    """First-layer weights, aligned: trained networks above sampled ones, one row each."""

    def draw(axes: Axes) -> None:
        kernel = next(iter(run.parts.network.arrays))
        rows = []
        for name in SETS:
            few = first_rows(sets_of(run).of(name), SHOWN)
            rows += list(np.asarray(aligned(run, few)[kernel]))
        axes.imshow(mosaic(rows), cmap="RdBu_r", vmin=-1, vmax=1)
        axes.axis("off")

    yield _drawn("filters", draw)


def mosaic(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays (side², n) as rows of n squares, each network divided by its largest entry."""
    side = math.isqrt(len(rows[0]))
    squares = [
        np.pad(
            (row / max(np.abs(row).max(), 1e-12)).T.reshape(-1, side, side),
            ((0, 0), (1, 1), (1, 1)),
            constant_values=np.nan,
        )
        for row in rows
    ]
    return np.concatenate([np.concatenate(list(row), 1) for row in squares])


def _histogram(axes: Axes, run: Run, metric: str) -> None:
    values = {name: np.asarray(sets_of(run).metrics(name)[metric]) for name in ("zoo", "samples")}
    bins = np.histogram_bin_edges(np.concatenate(list(values.values())), 20).tolist()
    for name, v in values.items():
        shares = np.full(len(v), 1 / len(v))
        axes.hist(v, bins, weights=shares, alpha=0.6, color=COLORS[name], label=name)
    axes.set(xlabel=f"test {metric}", ylabel="share of networks")
    axes.locator_params(axis="x", nbins=5)
    axes.legend()


def _map(axes: Axes, run: Run) -> None:
    nearest = sets_of(run).nearest
    points = {"zoo": nearest.points}
    points |= {name: nearest.align(sets_of(run).of(name)) for name in ("held out", "samples")}
    weights = {name: np.asarray(stack_flat(p)) for name, p in points.items()}
    pca = PCA(2).fit(np.concatenate(list(weights.values())))
    for order, (name, marker) in enumerate(MARKERS.items()):
        x, y = pca.transform(weights[name]).T
        style = {"s": 14, "alpha": 0.7, "linewidths": 0.8, "zorder": order + 1}
        axes.scatter(x, y, marker=marker, color=COLORS[name], label=name, **style)
    axes.set(xlabel="first component", ylabel="second component")
    axes.legend()
