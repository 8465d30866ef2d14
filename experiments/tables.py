"""Train the flows of a table, each with several seeds, and measure loss barriers of the zoo.

python -m experiments.tables --config=configs/tables.py:wine --workdir=runs/tables/wine

Every cell is a run of `experiments.uci` in a folder of its own below the workdir. The same command
resumes. `experiments.publish.tables` makes a page of it.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from experiments import barriers, uci
from experiments.command import Config, UsageError, choose, main
from experiments.report import ROWS, figures_of
from experiments.workdir import Workdir

METRICS = ("accuracy", "loss", "novelty", "disagreement")


def run(config: Config, path: str) -> None:
    """All cells, then barriers."""
    if not config.seeds or not config.rows:
        raise UsageError("config.seeds and config.rows must not be empty")
    configs = {(row, s): _cell(config, row, s) for row in config.rows for s in config.seeds}
    for cell in configs.values():
        uci.Experiment(cell)  # refuses wrong settings before hours of work
    workdir = Workdir(path, config)
    cells: dict[str, list[dict[str, Any]]] = {row: [] for row in config.rows}
    # Cells differ in constants only here and there: most of what one compiles serves the others.
    with _compiled_code_kept_in(workdir / "compiled"):
        for (row, seed), cell in configs.items():
            print(f"\n{row}, seed {seed}", flush=True)
            cells[row].append(_run_cell(workdir, cell, workdir / row / f"seed{seed}"))
            jax.clear_caches()  # after 29 cells of two hidden layers no more code could be loaded
    with workdir.stage("barriers"):
        first = next(iter(configs.values()))
        first.zoo.networks = config.barriers.networks
        found = barriers.measure(uci.Experiment(first), workdir / "barriers.png")
    rows = {row: summary(results, "samples") for row, results in cells.items()}
    rows["zoo"] = summary(next(iter(cells.values())), "target")
    workdir.finish({"seeds": list(config.seeds), "rows": rows, "barriers": found})
    shutil.rmtree(workdir / "compiled", ignore_errors=True)


@contextmanager
def _compiled_code_kept_in(folder: Path) -> Iterator[None]:
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


def _cell(config: Config, row: str, seed: int) -> Config:
    cell = config.base.copy_and_resolve_references()
    cell.update(choose(config.rows, "rows", row))
    cell.seed = seed
    return cell


def _run_cell(workdir: Workdir, config: Config, folder: Path) -> dict[str, Any]:
    """The results of one cell. Cells with the same seed share a zoo."""
    shared = workdir / "zoos" / f"seed{config.seed}.safetensors"
    own = folder / "zoo" / "zoo.safetensors"
    if shared.exists() and not own.exists():
        own.parent.mkdir(parents=True)
        shutil.copy(shared, own)
    uci.run(config, str(folder))
    if not shared.exists():
        shared.parent.mkdir(exist_ok=True)
        shutil.copy(own, shared)
    return json.loads((folder / "results.json").read_text())


def summary(results: list[dict[str, Any]], row: str) -> dict[str, dict[str, float]]:
    """Of every figure: the mean over seeds, `std` over networks, `seed_std` of the seeds' means."""
    assert row in ROWS
    figures = [figures_of(r, row) for r in results]
    table = {}
    for metric in (m for m in METRICS if m in figures[0]):
        values = [f[metric]["value"] for f in figures]
        table[metric] = {"value": float(np.mean(values)), "seed_std": float(np.std(values))}
        spreads = [s for f in figures if (s := f[metric]["std"]) is not None]
        if spreads:
            table[metric]["std"] = float(np.mean(spreads))
    return table | {"seconds": {"value": float(np.mean([_seconds(r) for r in results]))}}


def _seconds(results: dict[str, Any]) -> float:
    return results["seconds"]["total"]


if __name__ == "__main__":
    main(run)
