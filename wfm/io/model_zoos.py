"""The Model Zoos' folders: a training run in each, with a checkpoint of each epoch.

Schürholt et al. (2022), "Model Zoos: A Dataset of Diverse Populations of Neural Network Models".
Ray Tune writes, for each run, `params.json`, `result.json` with one line for each
`training_iteration`, and `checkpoint_000NNN/checkpoints`, a `state_dict`.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wfm.errors import UserError
from wfm.io.beside import json_lines, json_of
from wfm.io.entry import Entry
from wfm.io.networks import natural

CHECKPOINT = re.compile(r"checkpoint_(\d+)")
FILE, SETTINGS, RESULTS = "checkpoints", "params.json", "result.json"
UNKNOWN = -999  # what these zoos write for the training metrics before training


def _is_run(path: Path) -> bool:
    return (path / SETTINGS).is_file() and any(path.glob("checkpoint_*"))


def knows(path: Path) -> bool:
    """Whether a folder holds such runs, or is one."""
    if not path.is_dir():
        return False
    return _is_run(path) or any(_is_run(run) for run in path.iterdir() if run.is_dir())


def entries(path: Path, read: Any) -> Sequence[Entry]:
    """One entry for each checkpoint of each run."""
    of_run = functools.lru_cache(maxsize=2)(_of_run)  # entries of one run follow each other
    runs = [path] if _is_run(path) else [run for run in path.iterdir() if _is_run(run)]
    return [
        Entry(
            f"{run.name}/{checkpoint.name}",
            partial(_checkpoint, read, checkpoint),
            partial(_about, of_run, run, checkpoint.name),
        )
        for run in sorted(runs, key=lambda run: natural(run.name))
        for checkpoint in sorted(run.glob("checkpoint_*"), key=lambda c: natural(c.name))
        if CHECKPOINT.fullmatch(checkpoint.name)
    ]


def _checkpoint(read: Any, folder: Path) -> Any:
    if not (folder / FILE).is_file():
        raise UserError(f"it has no file {FILE!r}")
    return read(folder / FILE)


def _about(of_run: Any, run: Path, checkpoint: str) -> list[Mapping[str, Any]]:
    """Settings, and the results of the epoch of a checkpoint."""
    match = CHECKPOINT.fullmatch(checkpoint)
    step = int(match[1]) if match else 0
    settings, results = of_run(run)
    return [settings | results.get(step, {}) | {"trajectory": run.name, "step": step}]


def _of_run(run: Path) -> tuple[dict[str, Any], dict[Any, dict[str, Any]]]:
    settings = {f"config.{name}": value for name, value in json_of(run / SETTINGS).items()}
    lines = json_lines(run / RESULTS) if (run / RESULTS).is_file() else []
    results = {line["training_iteration"]: line for line in lines if "training_iteration" in line}
    known = {
        step: {name: math.nan if value == UNKNOWN else value for name, value in line.items()}
        for step, line in results.items()
    }
    return settings, known
