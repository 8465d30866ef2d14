"""Time this code beside PyTorch, one case after another, each in a process of its own.

python -m experiments.bench --config=configs/bench.py --workdir=runs/bench

The workdir is the run: the same command goes on after the last finished case.
"""

import json
import os
import subprocess
import sys
from typing import Any

from experiments.command import Config, main
from experiments.workdir import Workdir


def run(config: Config, path: str) -> None:
    """All cases of the config."""
    workdir = Workdir(path, config)
    (workdir / "cases").mkdir(exist_ok=True)
    found = {}
    for name, case in config.cases.to_dict().items():
        file = workdir / "cases" / f"{name}.json"
        if not file.exists():
            with workdir.stage("cases"):
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps(_figures(case), indent=1) + "\n")
                partial.replace(file)
        found[name] = json.loads(file.read_text())
        print(f"{name}: {_line(found[name])}", flush=True)
    workdir.finish({"seed": config.seed, "cases": found})


def _figures(case: dict[str, Any]) -> dict[str, Any]:
    """What a case prints; or the error, since a rival that runs out of memory is a finding."""
    worker = [sys.executable, "-m", "experiments.bench.worker", case["module"], case["case"]]
    done = subprocess.run(
        [*worker, json.dumps(case["options"])],
        env=os.environ | case["env"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"exit status {done.returncode}: {last}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _line(figures: dict[str, Any]) -> str:
    if "seconds" not in figures:
        return json.dumps(figures)
    s = figures["seconds"]
    memory = f"; peak {figures['peak_mb']:.0f} MB" if "peak_mb" in figures else ""
    return (
        f"{s['median']:.4g} s ({s['least']:.4g} to {s['most']:.4g}); "
        f"first call {s['first']:.1f} s{memory}"
    )


if __name__ == "__main__":
    main(run)
