"""The page of the demo: one run of `experiments.uci`, beside runs with other settings.

python -m experiments.publish.demo docs/results/demo RUN [OTHER_RUN …]
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.command import differences
from experiments.publish import page
from experiments.report import ROWS, figures_of, with_error

COMMAND = "python -m experiments.uci --config=configs/uci.py"
OTHERS = f"""## Other settings

`{COMMAND} --workdir=DIR --config.KEY=VALUE`, one run each.
Zoo: all snapshots that the flow learns from."""

METRICS = {"accuracy": "", "loss": "nats", "novelty": "", "disagreement": ""}


def records(run: Path, command: str) -> list[page.Record]:
    """One flat record for each figure."""
    results = page.load(run, "results")
    return [
        page.record(run, command, row, metric, figures_of(results, row)[metric] | {"unit": unit})
        for row in ROWS
        for metric, unit in METRICS.items()
        if metric in figures_of(results, row)
    ]


def markdown_table(results: dict[str, Any]) -> str:
    """The comparison, as it stands in the README."""
    lines = ["| networks | accuracy | loss | novelty | disagrees |", "|---|---|---|---|---|"]
    for row, title in ROWS.items():
        figures = figures_of(results, row)
        cells = [
            f"{figures[m]['value']:.3f} ± {figures[m]['std']:.3f}" for m in ("accuracy", "loss")
        ]
        for metric in ("novelty", "disagreement"):
            cells.append(with_error(figures[metric]) if metric in figures else "")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def comparison_table(runs: Sequence[Path]) -> str:
    """Zoo and samples of several runs, each named by what its config has other than the first's."""
    first = page.load(runs[0], "config")
    lines = [
        "| differs in | zoo: accuracy | samples | zoo: loss | samples | novelty |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        config, results = page.load(run, "config"), page.load(run, "results")
        changes = [f"{key} {value}" for key, value in differences(first, config).items()]
        cells = [
            f"{results[row][metric]['mean']:.4f} ± {results[row][metric]['std']:.3f}"
            for metric in ("accuracy", "loss")
            for row in ("target", "samples")
        ]
        cells.append(with_error(figures_of(results, "samples")["novelty"]))
        lines.append(f"| {', '.join(changes) or '(nothing)'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def publish(target: Path, runs: Sequence[Path]) -> None:
    """Write the page, its records and its picture."""
    first, *others = runs
    rows = records(first, "make demo")
    for other in others:
        changes = differences(page.load(first, "config"), page.load(other, "config"))
        options = "".join(f" --config.{key}={value}" for key, value in changes.items())
        rows += records(other, f"{COMMAND}{options}")
    body = [
        f"`make demo`. {page.cost(first)}",
        markdown_table(page.load(first, "results")),
        f"![Accuracy, loss and a map of zoo and samples]({target.name}.png)",
    ]
    if others:
        body += [OTHERS, comparison_table(runs)]
    page.write(target, first, "\n\n".join(body), rows)
    shutil.copy(first / "figures" / "overview.png", target.with_suffix(".png"))


if __name__ == "__main__":
    page.main(publish)
