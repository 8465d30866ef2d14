"""A run to be killed: `python -m tests.killed_run FOLDER [STAGE N]`, again until it is done.

It makes a tiny study in FOLDER and publishes its page there. It prints the stage of each operation
on its files when that changes, `from STEP` when it trains, and at the end how many operations each
stage had. It kills itself just before operation N of STAGE, or where it would be over.
"""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from experiments import __main__ as program
from tests.experiments.tiny import QUICK
from wfm.training import Checkpoints

# Stages by what the paths of their files have in them; the first that fits counts.
STAGES = {
    "zoo": ("/zoo/",),
    "alignment": ("/align/",),
    "saving": ("/checkpoints",),
    "training": ("/train/",),
    "sampling": ("/sample/",),
    "measuring": ("/quality/", "/novelty/", "/overview/", "/loss_curve/"),
    "publishing": ("/cells/", "/records.json", "/report.html", "/results/"),
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "tempfile.mkdtemp"}
LONGER = ["--config.training.steps=80", "--config.training.report_every=2"]
LONGER += ["--config.zoo.at_once=2", "--config.zoo.epochs=40"]


def watch(folder: str, stage: str, number: int) -> Counter[str]:
    """Count operations on files of `folder` by stage, and die before one of them."""
    done, last = Counter(), [""]

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
        if not (writes or event in CHANGES) or not str(arguments[0]).startswith(folder):
            return
        path = str(arguments[0])
        here = next((s for s, parts in STAGES.items() if any(p in path for p in parts)), "")
        if not here:
            return
        done[here] += 1
        if here != last[0]:
            last[0] = here
            os.write(1, f"stage {here}\n".encode())
        # A run that goes on has fewer operations left than a whole one.
        over = event == "os.rename" and path.endswith(".begun")
        last_of_all = over and here == ("training" if stage == "saving" else stage)
        if last_of_all or (here == stage and done[here] == number):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(see)
    return done


def main(folder: str, stage: str = "", number: str = "0") -> None:
    """The run, then its page."""
    done, restore = watch(folder, stage, int(number)), Checkpoints.restore

    def restored(self: Checkpoints, like: Any) -> Any:
        state = restore(self, like)
        os.write(1, f"from {0 if state is None else int(state.step)}\n".encode())
        return state

    Checkpoints.restore = restored
    program.RESULTS = Path(folder) / "results"
    study = ["demo:euclidean", *QUICK, *LONGER, f"--workdir={folder}/run"]
    program.main(["run", *study])
    program.main(["page", *study])
    for name, count in done.items():
        print("count", name, count, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
