"""The page of quality against the number of steps: runs of `experiments.steps`.

python -m experiments.publish.steps docs/results/steps RUN [RUN …]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from configs import steps
from experiments.publish import page

COMMAND = "python -m experiments.steps --config=configs/steps.py:{variant} --workdir={run}{options}"
COMPARED = (
    ("euler", 64),
    ("midpoint", 8),
    ("euler guided", 64),
    ("adam from prior", 64),
    ("adam from samples", 64),
    ("descent from samples", 64),
)
METRICS = {"accuracy": "", "loss": "nats", "novelty": "", "validation_loss": "nats"}
ERRORS = (
    "Test loss (nats) ± its standard error over networks, by way and steps. Each error is of one "
    "way by itself; all ways share their draws, so that these errors do not tell how sure a "
    "difference between two of them is:"
)
STYLES = {
    "euler": "C0:",
    "midpoint": "C1:",
    "rk4": "C2:",
    "euler guided": "C0-",
    "midpoint guided": "C1-",
    "rk4 guided": "C2-",
    "adam from prior": "k--",
    "adam from samples": "C4--",
    "descent from samples": "C5--",
    "descent from prior": "C7--",
}


def records(run: Path) -> list[page.Record]:
    """One flat record for each figure of a run, and of the zoo that it learned from."""
    kind, command, zoo = _kind(run), _command(run), page.load(run, "results")["zoo"]
    row = lambda p: f"{kind}, {p['way']}, {p['steps']} steps"  # noqa: E731
    of_zoo = page.records_of_figures(run, command, f"{kind}, zoo", zoo, METRICS)
    return page.records_of_points(run, command, row, METRICS) + of_zoo


def table(points: Sequence[dict[str, Any]], metric: str) -> str:
    """A figure of each way (rows) after each number of steps (columns), as Markdown."""
    numbers = sorted({p["steps"] for p in points})
    found = {(p["way"], p["steps"]): f"{p[metric]:.4f}" for p in points}
    lines = [f"| {metric} | {' | '.join(map(str, numbers))} |", "|---" * (1 + len(numbers)) + "|"]
    for way in dict.fromkeys(p["way"] for p in points):
        lines.append(f"| {way} | {' | '.join(found.get((way, n), '') for n in numbers)} |")
    return "\n".join(lines)


def comparison(runs: Sequence[Path]) -> str:
    """Loss of a few ways, a line for each run, as Markdown."""
    titles = [f"{way}, {n}" for way, n in COMPARED]
    lines = [f"| flow | zoo | {' | '.join(titles)} |", "|---" * (2 + len(titles)) + "|"]
    for run in runs:
        results = page.load(run, "results")
        found = {(p["way"], p["steps"]): p for p in results["points"]}
        cells = [
            f"{found[at]['loss']:.4f} ± {found[at]['loss_error']:.4f}" if at in found else ""
            for at in COMPARED
        ]
        cells = [f"{results['zoo']['loss']:.4f}", *cells]
        lines.append(f"| {_kind(run)}, seed {results['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def section(run: Path) -> str:
    """All that one run found."""
    results = page.load(run, "results")
    networks = page.load(run, "config")["base"]["sampling"]["networks"]
    zoo, points = results["zoo"], results["points"]
    tables = "\n\n".join(table(points, metric) for metric in ("loss", "accuracy", "novelty"))
    return (
        f"## {_kind(run).capitalize()}, seed {results['seed']}\n\n"
        f"`{_command(run)}`, {networks} networks at each point. "
        f"{page.cost(run)}\nZoo: loss {zoo['loss']:.4f}, accuracy {zoo['accuracy']:.4f}.\n\n"
        f"{tables}"
    )


def draw(runs: Sequence[Path], path: Path) -> None:
    """Test loss against steps, one panel for each flow."""
    figure, grid = plt.subplots(
        1,
        len(runs),
        figsize=(1 + 4.6 * len(runs), 4.4),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for ax, run in zip(grid[0], runs, strict=True):
        _panel(ax, page.load(run, "results"))
        ax.set(title=_kind(run).capitalize(), xlabel="steps")
    grid[0, 0].set_ylabel("test loss (nats)")
    beside: Any = "outside right"  # which the type stubs do not know
    drawn = {
        label: handle
        for ax in grid[0]
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(drawn.values()), list(drawn), loc=beside, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(ax: Axes, results: dict[str, Any]) -> None:
    points = sorted(results["points"], key=lambda p: p["steps"])
    for way, style in STYLES.items():
        mine = [p for p in points if p["way"] == way]
        if not mine:  # a line that is not drawn has no place in the legend either
            continue
        n, loss, error = ([p[k] for p in mine] for k in ("steps", "loss", "loss_error"))
        ax.errorbar(n, loss, error, fmt=style, label=way, marker=".")
    ax.axhline(results["zoo"]["loss"], color="0.7", label="zoo", zorder=0)
    # Few steps from the prior end far above; every way is seen where it is best.
    best = [min(p["loss"] for p in points if p["way"] == w) for w in {p["way"] for p in points}]
    ticks = sorted({p["steps"] for p in points})
    ax.set(xscale="log", ylim=(0.8 * results["zoo"]["loss"], 1.1 * max(best)), xticks=ticks)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def _command(run: Path) -> str:
    variant = page.load(run, "config")["variant"]
    options = page.options(run, steps.get_config(variant))
    return COMMAND.format(variant=variant, run=f"runs/steps/{run.name}", options=options)


def _kind(run: Path) -> str:
    return page.load(run, "config")["base"]["flow"]["kind"]


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and its picture."""
    first_of_each = {_kind(run): run for run in reversed(runs)}
    body = [
        f"![Test loss against steps]({target.name}.png)",
        f"{ERRORS}\n\n{comparison(runs)}",
        *map(section, runs),
    ]
    records_of_all = [record for run in runs for record in records(run)]
    page.write(target, runs[0], "\n\n".join(body), records_of_all)
    draw(sorted(first_of_each.values(), key=runs.index), target.with_suffix(".png"))


if __name__ == "__main__":
    page.main(publish)
