"""Train the flows of a table, each with several seeds, and measure loss barriers of the zoo.

python -m experiments.tables --config=configs/tables.py:wine --workdir=runs/tables/wine

Every cell is a run of `experiments.uci` in a folder of its own below the workdir. The same command
resumes. `experiments.publish.tables` makes a page of it.
"""

from typing import Any

from experiments import barriers, uci
from experiments.cells import cells_of, over_seeds, run_cells
from experiments.command import Config, main
from experiments.experiment import Experiment
from experiments.report import ROWS, figures_of
from experiments.workdir import Workdir

METRICS = ("accuracy", "loss", "novelty", "disagreement")


def run(config: Config, path: str) -> None:
    """All cells, then barriers."""
    configs = cells_of(config)
    for cell in configs.values():
        Experiment(cell)  # refuses wrong settings before hours of work
    workdir = Workdir(path, config)
    cells = run_cells(workdir, configs, uci.run)
    with workdir.stage("barriers"):
        first = next(iter(configs.values()))
        first.zoo.networks = config.barriers.networks
        found = barriers.measure(Experiment(first), workdir / "barriers.png")
    rows = {row: summary(results, "samples") for row, results in cells.items()}
    rows["zoo"] = summary(next(iter(cells.values())), "target")
    workdir.finish({"seeds": list(config.seeds), "rows": rows, "barriers": found})


def summary(results: list[dict[str, Any]], row: str) -> dict[str, dict[str, float]]:
    """The figures of one row of every seed's results, over seeds."""
    assert row in ROWS
    return over_seeds([_figures(r, row) for r in results])


def _figures(results: dict[str, Any], row: str) -> dict[str, dict[str, Any]]:
    found = figures_of(results, row)
    known = {metric: found[metric] for metric in METRICS if metric in found}
    return known | {"seconds": {"value": results["seconds"]["total"]}}


if __name__ == "__main__":
    main(run)
