"""Figures and a page of a run, readable without any server."""

import base64
import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from sklearn.decomposition import PCA

from experiments.workdir import Workdir

COLORS = {"target": "#4c72b0", "held_out": "#222222", "samples": "#dd8452"}
MARKERS = {"target": ".", "held_out": "x", "samples": "o"}  # from below: the last is on top
TITLES = {"target": "zoo", "held_out": "held-out zoo", "samples": "samples"}
ROWS = {
    "target": "zoo, all snapshots",
    "trained": "zoo, last snapshots",
    "held_out": "zoo, held-out trajectories",
    "samples": "samples of the flow",
    "noisy": "baseline: zoo + 10% noise",
    "averaged": "baseline: averages of two",
    "crossed": "baseline: neurons of two",
}


class Networks(NamedTuple):
    """Figures of a set of networks, and their weights as rows."""

    accuracy: ArrayLike
    loss: ArrayLike
    weights: ArrayLike


Panel = tuple[Callable[[Axes], None], str]  # what draws a figure, and its caption


def table(results: Mapping[str, Any]) -> str:
    """The comparison as text."""
    lines = [f"{'':28}{'accuracy':>17}{'loss':>17}{'novelty':>17}{'disagrees':>11}"]
    for row in (r for r in ROWS if r in results):
        title, figures = ROWS[row], figures_of(results, row)
        line = f"{title:28}" + "".join(
            f"{figures[m]['value']:>9.4f} ± {figures[m]['std']:.3f}" for m in ("accuracy", "loss")
        )
        if "novelty" in figures:
            line += f"{with_error(figures['novelty']):>17}{figures['disagreement']['value']:>11.3f}"
        lines.append(line)
    return "\n".join([*lines, "", EXPLANATION, _cost(results)])


EXPLANATION = (
    "Novelty: median geodesic distance to the nearest network that the flow was trained on, up to\n"
    "permutation and rescaling, over that of held-out trajectories, ± its standard error.\n"
    "Disagrees: mean share of test inputs classified otherwise than by the training network that\n"
    "agrees most. Other ± are standard deviations over networks."
)


def with_error(figure: Mapping[str, Any]) -> str:
    """A value, and its standard error where there is one."""
    error = figure.get("error")
    return f"{figure['value']:.3f}" + ("" if error is None else f" ± {error:.3f}")


def figures_of(results: Mapping[str, Any], row: str) -> dict[str, dict[str, Any]]:
    """Value, and spread or standard error, of every figure of one row."""
    figures = {m: {"value": v["mean"], "std": v["std"]} for m, v in results[row].items()}
    novelty = results["novelty"]
    if row in novelty["distance"]:
        ratio = novelty["distance"][row] / novelty["distance"]["held_out"]
        figures["novelty"] = {"value": ratio, "std": None, "error": None}
        figures["disagreement"] = {"value": novelty["disagreement"][row], "std": None}
    if row == "samples":  # without those that have no distance
        figures["novelty"] |= {"value": novelty["ratio"], "error": novelty.get("ratio_error")}
    return figures


def _cost(results: Mapping[str, Any]) -> str:
    times = ", ".join(f"{name} {s:.0f} s" for name, s in results["seconds"].items())
    return f"Time: {times}. Peak memory {results['peak_rss_mb']} MB."


def write(
    workdir: Workdir,
    results: Mapping[str, Any],
    sets: Mapping[str, Networks],
    more: Mapping[str, Panel] | None = None,
) -> None:
    """Draw all figures, and `more` of them, and write `report.html` with them inside."""
    steps = [record for record in workdir.metrics.read() if "step" in record]
    panels = {
        "loss": (
            lambda axes: _loss_curve(axes, steps),
            "Loss of the flow, in training (line) and on held-out networks (dots).",
        ),
        "accuracy": (
            lambda axes: _histogram(axes, sets, "accuracy"),
            "Test accuracy of trained and of sampled networks.",
        ),
        "test_loss": (
            lambda axes: _histogram(axes, sets, "loss"),
            "Test loss (nats) of trained and of sampled networks.",
        ),
        "map": (
            lambda axes: _map(axes, sets),
            "Weights in canonical form, aligned, on their first two principal components.",
        ),
        **(more or {}),
    }
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    for name, (draw, _) in panels.items():
        figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
        draw(axes)
        _save(figure, folder / f"{name}.png")
    figure, grid = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for axes, name in zip(grid, ("accuracy", "test_loss", "map"), strict=True):
        panels[name][0](axes)
    _save(figure, folder / "overview.png")
    pictures = "".join(
        f'<figure><img src="{_data_url(folder / f"{name}.png")}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>\n"
        for name, (_, caption) in panels.items()
    )
    page = PAGE.format(
        title=html.escape(f"wfm run {workdir.path.name}"),
        table=html.escape(table(results)),
        pictures=pictures,
        config=html.escape((workdir / "config.json").read_text()),
        versions=html.escape(", ".join(f"{k} {v}" for k, v in results["versions"].items())),
    )
    (workdir / "report.html").write_text(page)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font-family: system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere }}
pre {{ overflow-x: auto; background: #f5f5f5; padding: 1rem; overflow-wrap: normal }}
figure {{ display: inline-block; margin: 0 1rem 1rem 0; width: 32rem; max-width: 100% }}
img {{ width: 100%; max-width: 100%; height: auto }}
figcaption {{ color: #555 }}
</style>
<h1>{title}</h1>
<pre>{table}</pre>
{pictures}
<h2>Config</h2>
<pre>{config}</pre>
<p>{versions}</p>
</html>
"""


def _loss_curve(axes: Axes, steps: list[dict[str, Any]]) -> None:
    x, y = ([r[key] for r in steps] for key in ("step", "loss"))
    axes.plot(x, y, color=COLORS["samples"], label="in training")
    judged = [r for r in steps if "validation_loss" in r]
    losses = [r["validation_loss"] for r in judged]
    axes.plot(
        [r["step"] for r in judged],
        losses,
        "o",
        markersize=4,
        zorder=3,
        color=COLORS["held_out"],
        label="on held-out networks",
    )
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()


def _histogram(axes: Axes, sets: Mapping[str, Networks], metric: str) -> None:
    values = {name: np.asarray(getattr(s, metric)) for name, s in sets.items()}
    bins = np.histogram_bin_edges(np.concatenate(list(values.values())), 20).tolist()
    for name in ("target", "samples"):
        v = values[name]
        shares = np.full(len(v), 1 / len(v))
        axes.hist(v, bins, weights=shares, alpha=0.6, color=COLORS[name], label=TITLES[name])
    axes.set(xlabel=f"test {metric}", ylabel="share of networks")
    axes.locator_params(axis="x", nbins=5)
    axes.legend()


def _map(axes: Axes, sets: Mapping[str, Networks]) -> None:
    pca = PCA(2).fit(np.concatenate([np.asarray(s.weights) for s in sets.values()]))
    for order, (name, marker) in enumerate(MARKERS.items()):
        x, y = pca.transform(np.asarray(sets[name].weights)).T
        axes.scatter(
            x,
            y,
            s=14,
            alpha=0.7,
            linewidths=0.8,
            zorder=order + 1,
            marker=marker,
            color=COLORS[name],
            label=TITLES[name],
        )
    axes.set(xlabel="first component", ylabel="second component")
    axes.legend()


def heat_maps(matrices: Mapping[str, ArrayLike], path: Path) -> None:
    """Barriers between all pairs of networks, one panel for each matrix, on one scale."""
    arrays = {name: np.asarray(m) for name, m in matrices.items()}
    top = max(float(np.quantile(m, 0.99)) for m in arrays.values())
    figure, grid = plt.subplots(
        1, len(arrays), figsize=(4.2 * len(arrays), 4.4), layout="constrained", squeeze=False
    )
    colors = ScalarMappable(Normalize(-top, top), "RdBu_r")
    for axes, (name, matrix) in zip(grid[0], arrays.items(), strict=True):
        pairs = matrix[~np.eye(len(matrix), dtype=bool)]
        axes.imshow(matrix, norm=colors.norm, cmap=colors.cmap, interpolation="nearest")
        title = "not aligned" if name == "none" else name.replace("_", " ")
        axes.set(title=f"{title}\nmean {pairs.mean():.4f}", xlabel="network", ylabel="network")
    figure.colorbar(colors, ax=grid, label="barrier (nats)", shrink=0.9)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
