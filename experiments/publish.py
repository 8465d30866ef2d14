"""Put a finished run's figures among the published results, beside runs with other settings.

python -m experiments.publish RUN docs/results/NAME "COMMAND THAT MADE THE RUN" [OTHER_RUN …]
"""

import datetime
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.command import differences
from experiments.report import ROWS, figures_of

COMMAND = "python -m experiments.uci --config=configs/uci.py"
OTHERS = f"""## Other settings

`{COMMAND} --workdir=DIR --config.KEY=VALUE`, one run each.
Zoo: all snapshots that the flow learns from."""

METRICS = {"accuracy": "", "loss": "nats", "novelty": "", "disagreement": ""}


def records(results: dict[str, Any], name: str, command: str) -> list[dict[str, Any]]:
    """One flat record for each figure."""
    return [
        {
            "experiment": name,
            "row": row,
            "metric": metric,
            **figures_of(results, row)[metric],
            "seeds": [results["seed"]],
            "published": None,
            "unit": unit,
            "command": command,
            "hardware": results["hardware"],
        }
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
            cells.append(f"{figures[metric]['value']:.3f}" if metric in figures else "")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def comparison_table(runs: Sequence[Path]) -> str:
    """Zoo and samples of several runs, each named by what its config has other than the first's."""
    first = _config(runs[0])
    lines = [
        "| differs in | zoo: accuracy | samples | zoo: loss | samples | novelty |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        config, results = _config(run), _results(run)
        changes = [f"{key} {value}" for key, value in differences(first, config).items()]
        cells = [
            f"{results[row][metric]['mean']:.4f} ± {results[row][metric]['std']:.3f}"
            for metric in ("accuracy", "loss")
            for row in ("target", "samples")
        ]
        cells.append(f"{results['novelty']['ratio']:.3f}")
        lines.append(f"| {', '.join(changes) or '(nothing)'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


def _config(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def publish(run: Path, target: Path, command: str, others: Sequence[Path] = ()) -> None:
    """Write `target`.md, .json and .png."""
    results = _results(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = records(results, target.name, command)
    for other in others:
        changes = differences(_config(run), _config(other))
        options = "".join(f" --config.{key}={value}" for key, value in changes.items())
        rows += records(_results(other), target.name, f"{COMMAND}{options}")
    target.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    shutil.copy(run / "figures" / "overview.png", target.with_suffix(".png"))
    seconds = ", ".join(f"{stage} {s:.0f}" for stage, s in results["seconds"].items())
    versions = ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    target.with_suffix(".md").write_text(
        f"# Results: {target.name}\n\n"
        f"`{command}`, seed {results['seed']}, on {results['hardware']}, "
        f"{datetime.date.today()}.\n\n{markdown_table(results)}\n\n"
        f"![Accuracy, loss and a map of zoo and samples]({target.name}.png)\n\n"
        f"Seconds, compilation included: {seconds}. "
        f"Peak memory {results['peak_rss_mb']} MB.\n\n"
        + (f"{OTHERS}\n\n{comparison_table([run, *others])}\n\n" if others else "")
        + f"Versions: {versions}.\n"
    )
    print(markdown_table(results))


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], [Path(p) for p in sys.argv[4:]])
