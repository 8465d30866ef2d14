"""The page of transfer: runs of `experiments.transfer`.

python -m experiments.publish.transfer docs/results/transfer RUN [RUN …]

Runs that differ in nothing but the seed and the widths are seen as one.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from configs import transfer
from experiments.publish import page

COMMAND = "python -m experiments.transfer --config=configs/transfer.py:{variant} --workdir={run}"
METRICS = {"accuracy": "", "average": "", "loss": "nats", "validation_accuracy": "", "novelty": ""}
COLUMNS = 3  # of panels
Measured = dict[str, Any]


def alike(runs: Iterable[Path]) -> list[list[Path]]:
    """The runs that differ in nothing but the seed and the widths, together."""
    found: dict[str, list[Path]] = {}
    for run in runs:
        config = page.load(run, "config")
        del config["base"]["seed"], config["widths"]
        found.setdefault(json.dumps(config, sort_keys=True), []).append(run)
    return list(found.values())


def over_seeds(runs: Iterable[Path]) -> list[Measured]:
    """What `best` chooses of each run, averaged over runs."""
    found: dict[tuple, list[Measured]] = {}
    for run in runs:
        for p in best(page.load(run, "results")["points"]):
            found.setdefault(_place(p), []).append(p)
    return list(map(_mean, found.values()))


def _mean(points: Sequence[Measured]) -> Measured:
    """Means, with the standard error over seeds; of one seed, that over its networks."""
    shown = {"accuracy", "average", "novelty"} & set(points[0])
    means = {name: np.mean([p[name] for p in points]) for name in shown}
    settings = {"settings": sorted({p["setting"] for p in points})}
    if len(points) > 1:
        spread = np.std([p["accuracy"] for p in points], ddof=1)
        means["accuracy_error"] = spread / len(points) ** 0.5
    return points[0] | means | settings


def _place(point: Measured) -> tuple:
    return tuple(point[key] for key in ("part", "way", "width", "gradients"))


def best(points: Iterable[Measured]) -> list[Measured]:
    """Of the settings of each way and number of gradients the one best on validation data."""
    chosen: dict[tuple, Measured] = {}
    for p in points:
        key = _place(p)
        if key not in chosen or p["validation_accuracy"] > chosen[key]["validation_accuracy"]:
            chosen[key] = p
    return list(chosen.values())


def table(points: Sequence[Measured]) -> str:
    """Accuracy, that of the average, and novelty, of each way (rows) by number of gradients."""
    numbers = sorted({p["gradients"] for p in points})
    found = {(p["way"], p["gradients"]): p for p in points}
    lines = [f"| gradients | {' | '.join(map(str, numbers))} |", "|---" * (1 + len(numbers)) + "|"]
    for way in dict.fromkeys(p["way"] for p in points):
        cells = [_cell(found.get((way, n))) for n in numbers]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(point: Measured | None) -> str:
    if point is None:
        return ""
    error, settings = point["accuracy_error"], [f"{s:g}" for s in point["settings"] if s]
    at = f" ({', '.join(settings)})" if settings else ""
    novelty = f" / {point['novelty']:.2f}" if "novelty" in point else ""
    return f"{point['accuracy']:.4f} ± {error:.4f} / {point['average']:.4f}{novelty}{at}"


def section(runs: Sequence[Path]) -> str:
    """All that runs of one kind found."""
    own, other = _tasks(runs)
    tables = [f"### {title}\n\n{table(points)}" for title, points in parts(runs).items()]
    costs = "\n".join(f"- `{_command(run)}`. {page.cost(run)}" for run in runs)
    return "\n\n".join([f"## From {own} to {other}", costs, *tables])


def parts(runs: Sequence[Path]) -> dict[str, list[Measured]]:
    """The points of the other task, and of the own one at every width, by title."""
    (own, other), found = _tasks(runs), over_seeds(runs)
    wide = _of(found, part="width")
    return {other: _of(found, part="task")} | {
        f"{own}, width {w}": _of(wide, width=w) for w in sorted({p["width"] for p in wide})
    }


def _tasks(runs: Sequence[Path]) -> tuple[str, str]:
    config = page.load(runs[0], "config")
    return config["base"]["task"], config["task"]


def _of(points: Sequence[Measured], **where: Any) -> list[Measured]:
    return [p for p in points if all(p[key] == value for key, value in where.items())]


def draw(studies: Sequence[Sequence[Path]], path: Path) -> None:
    """Accuracy against gradients: of the other tasks, and of the own one at every width."""
    panels = [
        (f"{title}, from {_tasks(runs)[0]}", points)
        for runs in studies
        for title, points in parts(runs).items()
    ]
    rows = -(-len(panels) // COLUMNS)
    size = (3.6 * COLUMNS + 2, 3.4 * rows)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=size, layout="constrained", squeeze=False)
    ways = dict.fromkeys(p["way"] for _, points in panels for p in points)
    colors = {way: f"C{number}" for number, way in enumerate(ways)}
    for axes in grid.flat:
        axes.set_visible(False)
    for axes, (title, points) in zip(grid.flat, panels, strict=False):
        axes.set_visible(True)
        _panel(axes, points, colors)
        axes.set(title=title, xlabel="gradients", xscale="symlog")
        axes.set_xlim(-0.5, 2 * max(p["gradients"] for p in points))
    for axes in grid[:, 0]:
        axes.set_ylabel("test accuracy")
    handles = [Line2D([], [], marker=".", color=c, label=way) for way, c in colors.items()]
    beside: Any = "outside right"  # which the type stubs do not know
    figure.legend(handles=handles, loc=beside, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(axes: Axes, points: Sequence[Measured], colors: Mapping[str, str]) -> None:
    for way in dict.fromkeys(p["way"] for p in points):
        mine = sorted(_of(points, way=way), key=lambda p: p["gradients"])
        n, value, error = (
            [p[key] for p in mine] for key in ("gradients", "accuracy", "accuracy_error")
        )
        axes.errorbar(n, value, error, fmt=".-", color=colors[way])
    # What is untrained lies far below; every way is seen from its first gradients on.
    axes.set_ylim(0.95 * min(p["accuracy"] for p in points if p["gradients"]), None)


def records(run: Path) -> list[page.Record]:
    """One flat record for each figure of each set of networks."""

    def row(p: Measured) -> str:
        where = f"{p['part']}, {p['way']}, width {p['width']}, {p['gradients']} gradients"
        return f"{where}, setting {p['setting']:g}"

    return page.records_of_points(run, _command(run), row, METRICS)


def _command(run: Path) -> str:
    variant = page.load(run, "config")["variant"]
    command = COMMAND.format(variant=variant, run=run)
    return command + page.options(run, transfer.get_config(variant))


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and its picture."""
    picture = f"![Accuracy against gradients]({target.name}.png)"
    studies = alike(runs)
    body = "\n\n".join([picture, *map(section, studies)])
    page.write(target, runs[0], body, [record for run in runs for record in records(run)])
    draw(studies, target.with_suffix(".png"))


if __name__ == "__main__":
    page.main(publish)
