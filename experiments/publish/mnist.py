"""The page of new MNIST networks: studies of `experiments.ablation`, beside published figures.

python -m experiments.publish.mnist docs/results/mnist RUN [RUN …]

Runs are known by the names of their studies. The pictures are those of the first row of the first
run (drawn), and of its last row (guided).
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments import report
from experiments.cells import over_seeds
from experiments.judge import AVERAGED
from experiments.publish import ablation, page
from experiments.report import figures_of

# Erdogan (2025, arXiv 2504.03710): MNIST 784-10-10, accuracy with its spread, and loss.
PUBLISHED = {
    "Euclidean": (0.737, 0.085, 0.814),
    "Euclidean + OT": (0.757, 0.077, 0.753),
    "Normalized": (0.753, 0.074, 1.537),
    "Normalized + OT": (0.706, 0.078, 1.608),
    "Geometric": (0.737, 0.070, 1.457),
    "Geometric + OT": (0.786, 0.064, 1.443),
}
PUBLISHED_ZOO = "0.933 ± 0.009 / 0.231"
FORMS = {"flows": "{}", "unfolded": "{}, plain graph", "lossy": "{} lossy", "guided": "{} guided"}
PICTURES = {
    "overview": "Accuracy, loss, and a map of weights",
    "filters": "First-layer weights of trained networks (above) and of samples (below)",
    "averages": "Accuracy of averages",
}
CURVES = {"trajectories": "trained networks", "widths": "features of the field"}
TRIVIAL = ("held_out", "noisy", "averaged", "crossed")
NOVELTY = {"accuracy": "", "loss": "nats", "novelty": "", "disagreement": ""}
TOGETHER = ("headline", "large")  # studies whose networks are seen alone and averaged
CALIBRATION = {"accuracy": "", "nll": "nats", "brier": "", "ece": ""}


def side_by_side(runs: Mapping[str, Path]) -> str:
    """Accuracy and loss of the six flows in every form, and as published."""
    rows = {name: page.load(run, "results")["rows"] for name, run in runs.items() if name in FORMS}
    lines = [f"| flow | published | {' | '.join(rows)} |", "|---" * (2 + len(rows)) + "|"]
    for flow, (accuracy, std, loss) in PUBLISHED.items():
        keys = {name: FORMS[name].format(flow) for name in rows}
        cells = [_cell(found.get(keys[name])) for name, found in rows.items()]
        published = f"{accuracy:.3f} ± {std:.3f} / {loss:.3f}"
        lines.append(f"| {flow} | *{published}* | {' | '.join(cells)} |")
    zoos = [_quality(next(iter(found.values()))["zoo"]) for found in rows.values()]
    return "\n".join([*lines, f"| trained networks | *{PUBLISHED_ZOO}* | {' | '.join(zoos)} |"])


def _cell(row: Mapping[str, Any] | None) -> str:
    return _quality(row["samples"]) if row else ""


def _quality(figures: Mapping[str, Any]) -> str:
    accuracy, loss = figures["accuracy"], figures["loss"]
    return f"{accuracy['value']:.3f} ± {accuracy['std']:.3f} / {loss['value']:.3f}"


def diversity(runs: Mapping[str, Path]) -> str:
    """How far the functions of pairs of samples, and of trained networks, are from each other."""
    lines = ["| networks | divergence | with kernel densities |", "|---|---|---|"]
    for run in (runs[name] for name in FORMS if name in runs):
        rows = page.load(run, "results")["rows"]
        sets = {row: found["samples"] for row, found in rows.items()}
        sets["trained networks"] = next(iter(rows.values()))["zoo"]
        for row, found in sets.items():
            exact, kernel = (found[m]["value"] for m in ("divergence", "kernel_divergence"))
            lines.append(f"| {row} | {exact:.4f} | {kernel:.5f} |")
    return "\n".join(dict.fromkeys(lines))


def novelty_table(run: Path) -> str:
    """How new samples are, beside held-out networks and trivial ways to new ones, over seeds."""
    lines = ["| networks | accuracy | loss | novelty | disagrees |", "|---" * 5 + "|"]
    rows = {row: found["samples"] for row, found in page.load(run, "results")["rows"].items()}
    for title, found in (baselines(run) | rows).items():
        cells = (f"{found[m]['value']:.4f}" for m in NOVELTY)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def baselines(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Figures over seeds of held-out networks, and of trivial ways to new ones, by title."""
    row = next(iter(page.load(run, "results")["rows"]))
    results = [page.load(cell, "results") for cell in cells(run, row)]
    return {
        report.ROWS[kind]: over_seeds([figures_of(r, kind) for r in results]) for kind in TRIVIAL
    }


def cells(run: Path, row: str) -> list[Path]:
    """The runs of `experiments.mnist` of one row, one for each seed."""
    return [run / row / f"seed{seed}" for seed in page.load(run, "config")["seeds"]]


def predictive_table(run: Path) -> str:
    """Calibration of single networks, averages and mean weights: samples and a deep ensemble."""
    lines = ["| networks | accuracy | NLL | Brier | ECE |", "|---|---|---|---|---|"]
    for title, found in predictive(run).items():
        shown = [f"{found[m]:.4f}" if m in found else "" for m in CALIBRATION]
        lines.append(f"| {title} | {' | '.join(shown)} |")
    return "\n".join(lines)


def predictive(run: Path) -> dict[str, dict[str, float]]:
    """Means over seeds of what networks predict, alone and together, by title."""
    rows, n = list(page.load(run, "results")["rows"]), str(AVERAGED)
    sets = [("trained", "trained", rows[0]), *(("samples", row, row) for row in rows)]
    means = {}
    for key, title, row in sets:
        found = [page.load(cell, "results")["together"][key] for cell in cells(run, row)]
        means[f"{title}, alone"] = _means([f["single"] for f in found])
        means[f"{title}, average of {n}"] = _means([f["average"][n] for f in found])
        weights = np.mean([f["mean_weights"]["accuracy"] for f in found])
        means[f"{title}, one of mean weights"] = {"accuracy": float(weights)}
    return means


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: float(np.mean([f[metric] for f in found])) for metric in CALIBRATION}


def draw(grown: Mapping[Path, str], path: Path) -> None:
    """Accuracy, average and novelty against the number that the rows of each run begin with."""
    figure, grid = plt.subplots(
        1, len(grown), figsize=(5.5 * len(grown), 4), layout="constrained", squeeze=False
    )
    for axes, (run, title) in zip(grid[0], grown.items(), strict=True):
        rows = page.load(run, "results")["rows"]
        found = {int(row.split()[0].replace(",", "")): f["samples"] for row, f in rows.items()}
        x = sorted(found)
        for metric in ("accuracy", "average", "novelty"):
            y = [found[n][metric]["value"] for n in x]
            axes.plot(x, y, "o-", label=ablation.COLUMNS[metric])
        axes.set(xlabel=title, xscale="log", xticks=x, xticklabels=x)
        axes.minorticks_off()
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def records(run: Path) -> Iterator[page.Record]:
    """One flat record for each figure of each row, with the published one where there is one."""
    published = {
        (FORMS[run.name].format(flow) + ", samples", metric): value
        for flow, (accuracy, _, loss) in PUBLISHED.items()
        for metric, value in (("accuracy", accuracy), ("loss", loss))
        if run.name in FORMS
    }
    for record in ablation.records(run):
        yield record | {"published": published.get((record["row"], record["metric"]))}


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and its pictures."""
    first, known = runs[0], {run.name: run for run in runs}
    rows = list(page.load(first, "results")["rows"])
    shown = {"drawn": cells(first, rows[0])[0], "guided": cells(first, rows[-1])[0]}
    pictures = []
    for way, cell in shown.items():
        for name, caption in PICTURES.items():
            picture = target.with_name(f"{target.name}-{way}-{name}.png")
            shutil.copy(cell / "figures" / f"{name}.png", picture)
            pictures.append(f"![{caption}: {way}]({picture.name})")
    growth = target.with_name(f"{target.name}-growth.png")
    if grown := {known[name]: title for name, title in CURVES.items() if name in known}:
        draw(grown, growth)
        pictures.append(f"![Accuracy, average and novelty by what grows]({growth.name})")
    body = [
        "## Beside the published figures\n\nAccuracy ± spread over networks / loss (nats).\n\n"
        + side_by_side(known),
        "## Diversity\n\nMean over pairs, in nats. Published, with kernel densities: 0.0007 to "
        "0.0012, trained networks 0.00002.\n\n" + diversity(known),
        "## Novelty, beside trivial ways to new networks\n\n" + novelty_table(first),
        "## Alone, averaged, and in one network of mean weights",
        *(f"{name}:\n\n{predictive_table(known[name])}" for name in TOGETHER if name in known),
        *pictures,
        *map(ablation.section, runs),
    ]
    every = [record for run in runs for record in records(run)]
    command = ablation.command(first)
    for title, figures in baselines(first).items():
        every += [
            page.record(first, command, title, metric, figures[metric] | {"unit": unit})
            for metric, unit in NOVELTY.items()
        ]
    for run in (known[name] for name in TOGETHER if name in known):
        for title, means in predictive(run).items():
            row = f"{run.name}: {title}"
            every += page.records_of_figures(run, ablation.command(run), row, means, CALIBRATION)
    page.write(target, first, "\n\n".join(body), every)


if __name__ == "__main__":
    page.main(publish)
