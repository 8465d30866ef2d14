"""This code compared with PyTorch, case by case, each in its own process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments.measures.base import Point
from experiments.records import Figures
from experiments.stages import Run


def points(run: Run) -> Iterator[Point]:
    """All cases of the config."""
    for name, case in run.config.cases.to_dict().items():
        yield Point({"case": name}, partial(_figures, name, case), more=case)


def _figures(name: str, case: dict[str, Any], folder: Path) -> Figures:
    """The output of a case, or `failed`, because a rival that runs out of memory is a finding."""
    worker = [sys.executable, "-m", "experiments.bench.worker", case["module"], case["case"]]
    done = subprocess.run(
        [*worker, json.dumps(case["options"])],
        env=os.environ | case["env"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{name}: exit status {done.returncode}: {last}", flush=True)
        return {"failed": done.returncode}
    return dict(_flat(json.loads(done.stdout.strip().splitlines()[-1])))


def _flat(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{key} {inner}", v) for inner, v in _flat(value))
        else:
            yield key, value
