"""Cells of a table: the run of a base config with a row's changes and a seed, for every pair."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from experiments.command import Config, UsageError, choose
from experiments.sharing import sharing
from experiments.workdir import Workdir

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
    shared = shared or workdir / "shared"
    results: dict[str, list[dict[str, Any]]] = {row: [] for row, _ in cells}
    # Cells differ in constants only here and there: most of what one compiles serves the others.
    with _compiled_code_kept_in(workdir / "compiled"):
        for (row, seed), cell in cells.items():
            print(f"\n{row}, seed {seed}", flush=True)
            folder = workdir / row / f"seed{seed}"
            with sharing(shared, cell, folder):
                run(cell, str(folder))
            results[row].append(json.loads((folder / "results.json").read_text()))
            jax.clear_caches()  # after 29 cells of two hidden layers no more code could be loaded
    return results


@contextmanager
def _compiled_code_kept_in(folder: Path) -> Iterator[None]:
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


def over_seeds(figures: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Of every figure: the mean over seeds, `std` over networks, `seed_std` of the seeds' means."""
    table = {}
    for metric in figures[0]:
        values = [f[metric]["value"] for f in figures]
        table[metric] = {"value": float(np.mean(values)), "seed_std": float(np.std(values))}
        spreads = [s for f in figures if (s := f[metric].get("std")) is not None]
        if spreads:
            table[metric]["std"] = float(np.mean(spreads))
    return table
