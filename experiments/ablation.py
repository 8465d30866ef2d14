"""Flows that differ from one in a thing each: what it does to samples, their novelty and average.

python -m experiments.ablation --config=configs/ablation.py:tried --workdir=runs/ablation/tried

Every cell is a run of `experiments.mnist` in a folder of its own below the workdir. The same
command resumes. Rows are compared by validation figures (`choice`); those of test data are
reported. `experiments.publish.ablation` makes a page of it.
"""

from typing import Any

from experiments import mnist
from experiments.cells import cells_of, over_seeds, run_cells
from experiments.command import Config, UsageError, main
from experiments.judge import AVERAGED
from experiments.report import figures_of
from experiments.workdir import Workdir

STAGES = ("zoo", "train", "sample", "total")
COLUMNS = (
    "validation_accuracy",
    "accuracy",
    "loss",
    "novelty",
    "disagreement",
    "average",
    "divergence",
)


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
    chosen_by = together.get("validation", {})  # which runs of old do not have
    more = {f"validation_{m}": chosen_by[m] for m in ("accuracy", "loss") if m in chosen_by}
    if chosen_by:
        more["validation_average"] = chosen_by["average"][str(AVERAGED)]
    more |= {
        "average": together["average"][str(AVERAGED)]["accuracy"],
        "divergence": together["divergence"]["mean"],
        "kernel_divergence": together["kernel_divergence"]["mean"],
        "mean_weights": together["mean_weights"]["accuracy"],
        "nll": together["single"]["nll"],
        "ece": together["single"]["ece"],
    }
    return figures_of(results, row) | {name: {"value": value} for name, value in more.items()}


def table(rows: dict[str, Any]) -> str:
    """The samples of every row, as text, and which is best on validation data."""
    shown = [c for c in COLUMNS if all(c in found["samples"] for found in rows.values())]
    lines = ["", f"{'':28}" + "".join(f"{c.replace('_', ' '):>21}" for c in shown)]
    for row, found in rows.items():
        values = (found["samples"][column]["value"] for column in shown)
        lines.append(f"{row:28}" + "".join(f"{value:>21.4f}" for value in values))
    return "\n".join([*lines, *choice(rows)])


def choice(rows: dict[str, Any]) -> list[str]:
    """A sentence that names the row of the best samples on validation data, if there is such."""
    found = {row: f["samples"].get("validation_accuracy") for row, f in rows.items()}
    if None in found.values():
        return []
    best = max(rows, key=lambda row: found[row]["value"])
    test = rows[best]["samples"]["accuracy"]["value"]
    return [
        f"Best by validation accuracy ({found[best]['value']:.4f}): {best}, with {test:.4f} on "
        "test data."
    ]


if __name__ == "__main__":
    main(run)
