"""This code compared with PyTorch, case by case, each in its own process."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments.budget import seconds_left
from experiments.measures.base import Point
from experiments.records import Figures
from experiments.stages import Run

# Two processes that share a GPU must not each take most of its memory at once.
SHARING = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def points(run: Run) -> Iterator[Point]:
    """All cases of the config, for as many minutes as it gives them."""
    cases = run.config.cases.to_dict()
    for name in run.config.get("order", cases):  # a ConfigDict sorts its keys
        case = cases[name]
        if (left := seconds_left(run.config)) > 0:
            # A case that the time cut off is made again when there is more of it.
            more = case if math.isinf(left) else case | {"minutes": run.config.minutes}
            yield Point({"case": name}, partial(_figures, name, case, left), more=more)


def _figures(name: str, case: dict[str, Any], seconds: float, folder: Path) -> Figures:
    """The output of a case, or `failed`, because a rival that runs out of memory is a finding."""
    worker = [sys.executable, "-m", "experiments.bench.worker", case["module"], case["case"]]
    try:
        done = subprocess.run(
            [*worker, json.dumps(case["options"])],
            env=os.environ | SHARING | case["env"],
            capture_output=True,
            text=True,
            timeout=None if math.isinf(seconds) else seconds,
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: not done in the {seconds:.0f} seconds that were left", flush=True)
        return {"failed": -signal.SIGKILL}
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
