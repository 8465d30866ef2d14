"""Flows that differ from one in a thing each: what it does to samples, their novelty and average.

python -m experiments.ablation --config=configs/ablation.py:tried --workdir=runs/ablation/tried

Every cell is a run of `experiments.mnist` in a folder of its own below the workdir. The same
command resumes. `experiments.publish.ablation` makes a page of it.
"""

from typing import Any

from experiments import mnist
from experiments.cells import cells_of, over_seeds, run_cells
from experiments.command import Config, UsageError, main
from experiments.judge import AVERAGED
from experiments.report import figures_of
from experiments.workdir import Workdir

STAGES = ("zoo", "train", "sample", "total")
COLUMNS = ("accuracy", "loss", "novelty", "disagreement", "average", "divergence")


def run(config: Config, path: str) -> None:
    """All cells, then their means over seeds."""
    cells = cells_of(config)
    for cell in cells.values():
        check(cell)  # refuses wrong settings before hours of work
    workdir = Workdir(path, config)
    results = run_cells(workdir, cells, mnist.run, config.shared)
    rows = {row: summary(found) for row, found in results.items()}
    workdir.finish({"seeds": list(config.seeds), "rows": rows})
    print(table(rows))


def check(cell: Config) -> None:
    """An error where a cell cannot be run, or gives no average to compare it by."""
    mnist.check(cell)
    if AVERAGED not in cell.averages:
        raise UsageError(
            f"config.base.averages is {tuple(cell.averages)}, or a row makes it so; rows are "
            f"compared by the average of {AVERAGED} networks: add {AVERAGED}"
        )


def summary(results: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures over seeds: of the samples, of the zoo that they are learned from, of the run."""
    sets = {"samples": "samples", "zoo": "trained"}
    found = {name: over_seeds([figures(r, row) for r in results]) for name, row in sets.items()}
    runs = [
        {name: {"value": r[name]} for name in ("parameters", "peak_rss_mb")}
        | {f"{stage} seconds": {"value": r["seconds"][stage]} for stage in STAGES}
        for r in results
    ]
    return found | {"run": over_seeds(runs)}


def figures(results: dict[str, Any], row: str) -> dict[str, dict[str, Any]]:
    """Every figure of one row of a run of `experiments.mnist`."""
    together = results["together"][row]
    more = {
        "average": together["average"][str(AVERAGED)]["accuracy"],
        "divergence": together["divergence"]["mean"],
        "kernel_divergence": together["kernel_divergence"]["mean"],
        "mean_weights": together["mean_weights"]["accuracy"],
        "nll": together["single"]["nll"],
        "ece": together["single"]["ece"],
    }
    return figures_of(results, row) | {name: {"value": value} for name, value in more.items()}


def table(rows: dict[str, Any]) -> str:
    """The samples of every row, as text."""
    lines = ["", f"{'':28}" + "".join(f"{column:>14}" for column in COLUMNS)]
    for row, found in rows.items():
        values = (found["samples"][column]["value"] for column in COLUMNS)
        lines.append(f"{row:28}" + "".join(f"{value:>14.4f}" for value in values))
    return "\n".join(lines)


if __name__ == "__main__":
    main(run)
