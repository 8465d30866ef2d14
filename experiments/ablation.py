"""What raises the accuracy of sampled MNIST networks, and what it costs: one row for each trial.

python -m experiments.ablation --config=configs/ablation.py --workdir=runs/ablation

Every cell is a run of `experiments.mnist` in a folder of its own below the workdir; cells whose
zoos are alike share one. The same command resumes. `experiments.publish.ablation` makes a page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import mnist
from experiments.cells import cells_of, run_cells
from experiments.command import Config, main
from experiments.report import figures_of
from experiments.workdir import Workdir

LARGEST = "32"  # the number of networks whose averaged predictions the table shows
OF_ZOO = ("trained", "crossed")


def run(config: Config, path: str) -> None:
    """All cells, and a line for each row of them."""
    configs = cells_of(config)
    for cell in configs.values():
        mnist.check(cell)  # refuses wrong settings before hours of work
    workdir = Workdir(path, config)
    cells = run_cells(workdir, configs, mnist.run)
    rows = {row: summary(results) for row, results in cells.items()}
    workdir.finish({"seeds": list(config.seeds), "rows": rows})
    print(table(rows))


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every figure of a row's cells, a number for each seed."""
    return {"seeds": [r["seed"] for r in results]} | {
        name: [measure(r) for r in results] for name, measure in FIGURES.items()
    }


def _average(results: Mapping[str, Any], of: str) -> float:
    return results["together"][of]["average"][LARGEST]["accuracy"]


FIGURES = {
    "accuracy": lambda r: r["samples"]["accuracy"]["mean"],
    "spread": lambda r: r["samples"]["accuracy"]["std"],
    "loss": lambda r: r["samples"]["loss"]["mean"],
    "novelty": lambda r: figures_of(r, "samples")["novelty"]["value"],
    "disagreement": lambda r: r["novelty"]["disagreement"]["samples"],
    "average": lambda r: _average(r, "samples"),
    "divergence": lambda r: r["together"]["samples"]["divergence"]["mean"],
    "zoo_accuracy": lambda r: r["trained"]["accuracy"]["mean"],
    "zoo_average": lambda r: _average(r, "trained"),
    "crossed_accuracy": lambda r: r["crossed"]["accuracy"]["mean"],
    "zoo_seconds": lambda r: r["seconds"]["zoo"],
    "train_seconds": lambda r: r["seconds"]["train"],
    "sample_seconds": lambda r: r["seconds"]["sample"],
}


def table(rows: Mapping[str, Any]) -> str:
    """A line for each row: means over its seeds."""
    shown = ("accuracy", "spread", "loss", "novelty", "disagreement", "average", "train_seconds")
    lines = [f"{'':30}" + "".join(f"{name:>14}" for name in shown)]
    for row, figures in rows.items():
        lines.append(f"{row:30}" + "".join(f"{np.mean(figures[m]):>14.4g}" for m in shown))
    return "\n".join(lines)


if __name__ == "__main__":
    main(run)
