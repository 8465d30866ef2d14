"""Cells of a table: the run of a base config with a row's changes and a seed, for every pair."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.command import Config, UsageError, choose
from experiments.sharing import sharing
from experiments.workdir import Workdir
from wfm import enable_compilation_cache

Cells = dict[tuple[str, int], Config]
Figures = Mapping[str, Mapping[str, Any]]  # of one run: `value` of each, `std` over its networks


def cells_of(config: Config) -> Cells:
    """`config.base` with the changes of each of `config.rows` and each of `config.seeds`."""
    if not config.seeds or not config.rows:
        raise UsageError("config.seeds and config.rows must not be empty")
    return {(row, seed): _cell(config, row, seed) for row in config.rows for seed in config.seeds}


def _cell(config: Config, row: str, seed: int) -> Config:
    cell = config.base.copy_and_resolve_references()
    cell.update(choose(config.rows, "rows", row))
    cell.seed = seed
    return cell


def run_cells(
    workdir: Workdir,
    cells: Cells,
    run: Callable[[Config, str], None],
    shared: str | Path = "",
) -> dict[str, list[dict[str, Any]]]:
    """The results of all cells, by row; those that are finished are not run again.

    `shared`: where zoos and flows are kept for cells of the same settings, in other workdirs too.
    """
    enable_compilation_cache()  # cells differ in constants only here and there
    shared = shared or workdir / "shared"
    results: dict[str, list[dict[str, Any]]] = {row: [] for row, _ in cells}
    for (row, seed), cell in cells.items():
        print(f"\n{row}, seed {seed}", flush=True)
        folder = workdir / row / f"seed{seed}"
        with sharing(shared, cell, folder):
            run(cell, str(folder))
        results[row].append(json.loads((folder / "results.json").read_text()))
        jax.clear_caches()  # after 29 cells of two hidden layers no more code could be loaded
    return results


def over_seeds(figures: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Of every figure: the mean over seeds, `std` over networks, `seed_std` of the seeds' means.

    `seed_std` is the sample standard deviation, of n - 1; one seed has none.
    """
    table = {}
    for metric in figures[0]:
        values = [f[metric]["value"] for f in figures]
        table[metric] = {"value": float(np.mean(values)), "seed_std": spread(values)}
        spreads = [s for f in figures if (s := f[metric].get("std")) is not None]
        if spreads:
            table[metric]["std"] = float(np.mean(spreads))
    return table


def spread(values: Sequence[float]) -> float | None:
    """The sample standard deviation: with the divisor n - 1, as few seeds are drawn from many."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
