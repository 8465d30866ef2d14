"""The page of what was tried on MNIST: runs of `experiments.ablation`.

python -m experiments.publish.ablation docs/results/mnist-ablation RUN [RUN …]
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from experiments.ablation import choice
from experiments.publish import page
from experiments.publish.labels import Dot, label

COMMAND = (
    "python -m experiments.ablation --config=configs/ablation.py:{study} "
    "--workdir=runs/ablation/{study} --config.shared=runs/shared"
)
CHOSEN_BY = {"validation_accuracy": "validation", "validation_average": "validation, average"}
COLUMNS = {
    "accuracy": "accuracy",
    "loss": "loss",
    "novelty": "novelty",
    "disagreement": "disagrees",
    "average": "average of 32",
    "divergence": "divergence",
}
UNITS = {
    "loss": "nats",
    "validation_loss": "nats",
    "nll": "nats",
    "divergence": "nats",
    "kernel_divergence": "nats",
    "seconds": "s",
}
SHOWN = {
    "novelty": (0.45, 1.3),
    "accuracy": (0.65, 0.96),
    "average": (0.93, 0.96),
}  # near the front
BARS = {"accuracy": 0.90, "novelty": 0.5, "average": 0.950}


def table(run: Path) -> str:
    """One line for every row: what was expected, and what came."""
    results, expected = page.load(run, "results"), page.load(run, "config")["expected"]
    rows = results["rows"].values()
    known = {m: t for m, t in CHOSEN_BY.items() if all(m in row["samples"] for row in rows)}
    columns = known | COLUMNS  # runs of old have no figures of validation data
    head = ["row", "expected", *columns.values(), "zoo", "zoo, average", "parameters", "flow, s"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row, found in results["rows"].items():
        samples, zoo, of_run = found["samples"], found["zoo"], found["run"]
        cells = [row, expected[row].replace("|", "&#124;")]
        cells += [_cell(samples[metric]) for metric in columns]
        cells += [_cell(zoo["accuracy"]), _cell(zoo["average"])]
        cells += [f"{of_run[name]['value']:,.0f}" for name in ("parameters", "train seconds")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figure: dict[str, float]) -> str:
    """Value, spread over networks, and over seeds where there are several."""
    text = f"{figure['value']:.4f}"
    if figure.get("std") is not None:
        text += f" ± {figure['std']:.3f}"
    return text + (f" ({figure['seed_std']:.4f})" if figure.get("seed_std") else "")


def records(run: Path) -> Iterator[page.Record]:
    """One flat record for each figure of each row."""
    for row, found in page.load(run, "results")["rows"].items():
        for part, figures in found.items():
            for metric, figure in figures.items():
                unit = UNITS.get(metric.split()[-1], "")
                about = figure | {"unit": unit}
                yield page.record(run, command(run), f"{row}, {part}", metric, about)


def draw(runs: Sequence[Path], path: Path) -> None:
    """Accuracy and average against novelty, a dot for every row near the front."""
    figure, grid = plt.subplots(2, 1, figsize=(11, 12), layout="constrained")
    named: list[list[Dot]] = [[], []]  # of each panel
    for number, run in enumerate(runs):
        rows = page.load(run, "results")["rows"]
        for axes, metric, dots in zip(grid, ("accuracy", "average"), named, strict=True):
            x, y = ([f["samples"][m]["value"] for f in rows.values()] for m in ("novelty", metric))
            axes.plot(x, y, "o", color=f"C{number}", label=run.name)
            dots += zip(rows, x, y, strict=True)
    zoo = next(iter(page.load(runs[0], "results")["rows"].values()))["zoo"]
    for axes, metric in zip(grid, ("accuracy", "average"), strict=True):
        axes.axhline(BARS[metric], color="0.7", linestyle=":", zorder=0)
        axes.axvline(BARS["novelty"], color="0.7", linestyle=":", zorder=0)
        axes.axhline(zoo[metric]["value"], color="0.7", zorder=0, label="trained networks")
        axes.set(xlabel="novelty", ylabel=COLUMNS[metric])
        axes.set(xlim=SHOWN["novelty"], ylim=SHOWN[metric])
    grid[1].legend(fontsize=8, loc="lower left")
    for axes, dots in zip(grid, named, strict=True):
        label(axes, dots, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def section(run: Path) -> str:
    """All that one study found."""
    results = page.load(run, "results")
    of_runs = [row["run"] for row in results["rows"].values()]
    seconds = sum(r["total seconds"]["value"] for r in of_runs) * len(results["seeds"])
    memory = max(r["peak_rss_mb"]["value"] for r in of_runs)
    return (
        f"## {run.name.capitalize()}\n\n`{command(run)}`. "
        f"Seeds {', '.join(map(str, results['seeds']))}; {results['hardware']}; "
        f"{seconds / 60:.0f} minutes in all; "
        f"peak memory {memory:.0f} MB.\n\n{table(run)}"
        + "".join(f"\n\n{line}" for line in choice(results["rows"]))
    )


def command(run: Path) -> str:
    """What made a run."""
    return COMMAND.format(study=run.name)


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and its picture."""
    picture = f"![Accuracy, and that of averages, against novelty]({target.name}.png)"
    body = "\n\n".join([picture, *map(section, runs)])
    page.write(target, runs[0], body, [record for run in runs for record in records(run)])
    draw(runs, target.with_suffix(".png"))


if __name__ == "__main__":
    page.main(publish)
