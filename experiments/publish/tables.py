"""The page of flows side by side: runs of `experiments.tables`.

python -m experiments.publish.tables docs/results/uci RUN [RUN …]
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import barriers
from experiments.publish import page

COMMAND = "python -m experiments.tables --config=configs/tables.py:{task} --workdir={run}"
KINDS = ("euclidean", "normalized", "geometric")
COLUMNS = {"as_trained": "as trained", "aligned": "aligned", "aligned_ot": "aligned + OT"}
OTHERS = {"flat_mlp_aligned": "flat MLP field, Euclidean, aligned", "zoo": "zoo"}
UNITS = {"loss": "nats", "seconds": "s"}

# Erdogan (2025, arXiv 2504.03710): breast cancer, accuracy and loss, each with its spread.
PUBLISHED: dict[str, dict[str, dict[str, tuple[float, float]]]] = {
    "breast_cancer": {
        "euclidean_as_trained": {"accuracy": (0.998, 0.006), "loss": (0.101, 0.050)},
        "euclidean_aligned": {"accuracy": (0.998, 0.006), "loss": (0.070, 0.040)},
        "euclidean_aligned_ot": {"accuracy": (0.993, 0.010), "loss": (0.053, 0.028)},
        "normalized_as_trained": {"accuracy": (0.993, 0.009), "loss": (0.027, 0.014)},
        "normalized_aligned": {"accuracy": (0.989, 0.011), "loss": (0.030, 0.015)},
        "normalized_aligned_ot": {"accuracy": (0.988, 0.018), "loss": (0.044, 0.047)},
        "geometric_as_trained": {"accuracy": (0.992, 0.011), "loss": (0.019, 0.009)},
        "geometric_aligned": {"accuracy": (0.993, 0.001), "loss": (0.018, 0.001)},
        "geometric_aligned_ot": {"accuracy": (0.991, 0.011), "loss": (0.020, 0.012)},
        "zoo": {"accuracy": (0.992, 0.010), "loss": (0.048, 0.032)},
    }
}
PUBLISHED_BARRIERS = {"none": (0.244, 0.009), "weights to one network": (0.070, 0.001)}


def records(run: Path) -> list[page.Record]:
    """One flat record for each figure of a run."""
    results, task = page.load(run, "results"), _task(run)
    published = PUBLISHED.get(task, {})
    known = PUBLISHED_BARRIERS if task in PUBLISHED else {}

    def record(row: str, metric: str, **figure: Any) -> page.Record:
        return {"experiment": task} | page.record(run, _command(run), row, metric, figure)

    found = [
        record(
            row,
            metric,
            value=figure["value"],
            std=figure.get("std"),
            seed_std=figure.get("seed_std"),
            published=published.get(row, {}).get(metric, (None,))[0],
            unit=UNITS.get(metric, ""),
        )
        for row, figures in results["rows"].items()
        for metric, figure in figures.items()
    ]
    return found + [
        record(
            f"barrier, {way}",
            metric,
            value=figure["mean"],
            std=figure["error"],
            published=known.get(way, (None,))[0] if metric == "line" else None,
            unit="nats",
        )
        for way, paths in results["barriers"].items()
        for metric, figure in paths.items()
    ]


def _command(run: Path) -> str:
    return COMMAND.format(task=_task(run), run=f"runs/tables/{run.name}")


def _task(run: Path) -> str:
    return page.load(run, "config")["base"]["task"]


def quality_table(rows: dict[str, Any], published: dict[str, Any]) -> str:
    """Accuracy and loss by flow and weights; a second line of each flow has published figures."""
    lines = [f"| flow | {' | '.join(COLUMNS.values())} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for kind in KINDS:
        keys = [f"{kind}_{column}" for column in COLUMNS]
        lines.append(f"| {kind.capitalize()} | {' | '.join(_cell(rows.get(k)) for k in keys)} |")
        if published:
            cells = [_published_cell(published.get(k)) for k in keys]
            lines.append(f"| *published* | {' | '.join(cells)} |")
    blank = " |" * (len(COLUMNS) - 1)
    lines += [
        f"| {title} | {_cell(rows[row])} |{blank}" for row, title in OTHERS.items() if row in rows
    ]
    if published:
        lines.append(f"| *zoo, published* | {_published_cell(published['zoo'])} |{blank}")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return " / ".join(f"{row[m]['value']:.3f} ± {row[m]['std']:.3f}" for m in ("accuracy", "loss"))


def _published_cell(row: dict[str, tuple[float, float]] | None) -> str:
    return " / ".join("{:.3f} ± {:.3f}".format(*row[m]) for m in row) if row else ""


def spread_table(rows: dict[str, Any]) -> str:
    """What stands beside the quality: differences between seeds, novelty and time, by row."""
    lines = [
        "| row | accuracy, over seeds | loss, over seeds | novelty | disagrees | seconds |",
        "|---|---|---|---|---|---|",
    ]
    order = [*(f"{kind}_{column}" for kind in KINDS for column in COLUMNS), *OTHERS]
    for name in sorted(rows, key=lambda r: (order.index(r) if r in order else -1, r)):
        row = rows[name]
        cells = [_over_seeds(row[m]) for m in ("accuracy", "loss")]
        for metric in ("novelty", "disagreement"):
            cells.append(f"{row[metric]['value']:.3f}" if metric in row else "")
        cells.append("" if name == "zoo" else f"{row['seconds']['value']:.0f}")
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _over_seeds(figure: dict[str, Any]) -> str:
    """The mean over seeds and their sample standard deviation, which one seed does not have."""
    spread = figure["seed_std"]
    return f"{figure['value']:.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def section(run: Path, picture: str) -> str:
    """All that one run found."""
    task, results = _task(run), page.load(run, "results")
    published = PUBLISHED.get(task, {})
    before, after = (value for value, _ in PUBLISHED_BARRIERS.values())
    beside = f" Published: {before} before alignment, {after} after." if published else ""
    networks = page.load(run, "config")["barriers"]["networks"]
    return (
        f"## {task.replace('_', ' ').capitalize()}\n\n"
        f"`{_command(run)}`, "
        f"seeds {', '.join(map(str, results['seeds']))}, on {results['hardware']}.\n\n"
        f"{quality_table(results['rows'], published)}\n\n"
        f"{spread_table(results['rows'])}\n\n"
        f"Barriers between {networks} networks, in nats.{beside}\n\n"
        f"{barriers.table(results['barriers'])}\n\n![Barriers of all pairs]({picture})"
    )


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and a picture of each run's barriers."""
    pictures = [f"{target.name}-{_task(run)}.png" for run in runs]
    body = "\n\n".join(section(run, p) for run, p in zip(runs, pictures, strict=True))
    page.write(target, runs[0], body, [record for run in runs for record in records(run)])
    for run, picture in zip(runs, pictures, strict=True):
        shutil.copy(run / "barriers.png", target.parent / picture)


if __name__ == "__main__":
    page.main(publish)
