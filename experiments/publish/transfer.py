"""The page of transfer: runs of `experiments.transfer`, the first of which is drawn.

python -m experiments.publish.transfer docs/results/transfer RUN [RUN …]
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from configs import transfer
from experiments.publish import page

COMMAND = "python -m experiments.transfer --config=configs/transfer.py --workdir={run}"
METRICS = {"accuracy": "", "average": "", "loss": "nats", "validation_accuracy": ""}
Measured = dict[str, Any]


def best(points: Iterable[Measured]) -> list[Measured]:
    """Of the settings of each way and number of gradients the one best on validation data."""
    chosen: dict[tuple, Measured] = {}
    for p in points:
        key = p["part"], p["way"], p["width"], p["gradients"]
        if key not in chosen or p["validation_accuracy"] > chosen[key]["validation_accuracy"]:
            chosen[key] = p
    return list(chosen.values())


def table(points: Sequence[Measured]) -> str:
    """Accuracy, and that of the average, of each way (rows) by number of gradients."""
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
    error, setting = point["accuracy_error"], point["setting"]
    at = f" ({setting:g})" if setting else ""
    return f"{point['accuracy']:.4f} ± {error:.4f} / {point['average']:.4f}{at}"


def section(run: Path) -> str:
    """All that one run found."""
    config, chosen = page.load(run, "config"), best(page.load(run, "results")["points"])
    own, other = config["base"]["task"], config["task"]
    parts = [f"### {other}, from networks of {own}", table(_of(chosen, part="task"))]
    for width in config["widths"]:
        parts += [f"### {own}, width {width}", table(_of(chosen, part="width", width=width))]
    title = f"## From {own} to {other}, seed {config['base']['seed']}"
    about = f"{title}\n\n`{_command(run)}`. {page.cost(run)}"
    return "\n\n".join([about, *parts])


def _of(points: Sequence[Measured], **where: Any) -> list[Measured]:
    return [p for p in points if all(p[key] == value for key, value in where.items())]


def draw(run: Path, path: Path) -> None:
    """Accuracy against gradients: of the other task, and of the own one at every width."""
    config, chosen = page.load(run, "config"), best(page.load(run, "results")["points"])
    panels = {config["task"]: _of(chosen, part="task")} | {
        f"{config['base']['task']}, width {w}": _of(chosen, part="width", width=w)
        for w in config["widths"]
    }
    figure, grid = plt.subplots(
        1, len(panels), figsize=(3.2 * len(panels), 3.8), layout="constrained"
    )
    ways = dict.fromkeys(p["way"] for points in panels.values() for p in points)
    colors = {way: f"C{number}" for number, way in enumerate(ways)}
    for axes, (title, points) in zip(grid, panels.items(), strict=True):
        _panel(axes, points, colors)
        axes.set(title=title, xlabel="gradients", xscale="symlog", xlim=(-0.5, None))
    grid[0].set_ylabel("test accuracy")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(axes: Axes, points: Sequence[Measured], colors: Mapping[str, str]) -> None:
    for way in dict.fromkeys(p["way"] for p in points):
        mine = sorted(_of(points, way=way), key=lambda p: p["gradients"])
        n, value, error = (
            [p[key] for p in mine] for key in ("gradients", "accuracy", "accuracy_error")
        )
        axes.errorbar(n, value, error, fmt=".-", color=colors[way], label=way)
    axes.legend(fontsize=6)


def records(run: Path) -> list[page.Record]:
    """One flat record for each figure of each set of networks."""
    return [
        page.record(
            run,
            _command(run),
            f"{p['part']}, {p['way']}, width {p['width']}, {p['gradients']} gradients, "
            f"setting {p['setting']:g}",
            metric,
            {"value": p[metric], "error": p.get(f"{metric}_error"), "unit": unit},
        )
        for p in page.load(run, "results")["points"]
        for metric, unit in METRICS.items()
    ]


def _command(run: Path) -> str:
    return COMMAND.format(run=run) + page.options(run, transfer.get_config())


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and its picture."""
    picture = f"![Accuracy against gradients]({target.name}.png)"
    body = "\n\n".join([picture, *map(section, runs)])
    page.write(target, runs[0], body, [record for run in runs for record in records(run)])
    draw(runs[0], target.with_suffix(".png"))


if __name__ == "__main__":
    page.main(publish)
