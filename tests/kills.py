"""Whole runs killed by SIGKILL, and what is left: `python -m tests.kills FOLDER [KILLS [SEED]]`.

A run is killed once or twice in each of its stages, at a random moment or just before a random
operation on its files, and started again after each kill. In the end it must have the bits of a run
that was not disturbed, and leave nothing behind. Prints the kills by stage after each run.
"""

import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from experiments import records
from tests.killed_run import STAGES
from wfm.jsons import digest_of_json

ORDER = ("zoo", "zoo", "alignment", "training", "saving", "training", "saving", "sampling")
ORDER += ("measuring", "measuring", "publishing", "publishing")
ENTRIES = {"zoo": "zoo", "alignment": "align", "sampling": "sample"}  # folders in the store
ENTRIES |= {"training": "train", "saving": "train"}
LEFT = (".begun", ".lock", ".partial", ".damaged", "-tmp")
COSTS = ("seconds", "peak_mb")  # which differ between any two runs


class Usual(NamedTuple):
    """Operations and seconds of each stage of an undisturbed run, and what it ends with."""

    operations: dict[str, int]
    seconds: dict[str, float]
    result: dict[str, str]


def start(folder: Path, *kill: str) -> subprocess.Popen[str]:
    """A run in a folder."""
    command = [sys.executable, "-m", "tests.killed_run", str(folder), *kill]
    pipes = {"stdout": subprocess.PIPE, "stderr": (folder / "stderr").open("w")}
    return subprocess.Popen(command, text=True, **pipes)


def lines(process: subprocess.Popen[str]) -> Iterator[list[str]]:
    """The lines of a run that say more than one word, word by word."""
    assert process.stdout is not None
    return (words for line in process.stdout if len(words := line.split()) > 1)


def undisturbed(folder: Path) -> Usual:
    """A run that nobody kills."""
    folder.mkdir(parents=True)
    process, now, stage = start(folder), time.monotonic(), ""
    seconds, operations = Counter(), {}
    for word, name, *rest in lines(process):
        if word == "stage":
            seconds[stage] += time.monotonic() - now
            now, stage = time.monotonic(), name
        if word == "count":
            operations[name] = int(rest[0])
    seconds[stage] += time.monotonic() - now
    assert process.wait() == 0, (folder / "stderr").read_text()
    assert operations.keys() == STAGES.keys(), operations
    return Usual(operations, dict(seconds), result(folder))


def killed(folder: Path, stage: str, usual: Usual, rng: random.Random) -> tuple[str, list[int]]:
    """Start a run and kill it: where that was (or nowhere), and the step it trained from."""
    # Few of a stage's operations may be left, so that early ones are chosen.
    number, now = rng.randint(1, -(-usual.operations[stage] // 4)), rng.random() < 0.5
    process = start(folder) if now else start(folder, stage, str(number))
    last, steps = "starting", []
    for word, name, *_ in lines(process):
        if word == "from":
            steps.append(int(name))
        if word == "stage":
            last = name
        if now and last == stage:
            time.sleep(rng.uniform(0, usual.seconds[stage]))
            process.kill()
            now = False
    code = process.wait()
    assert code in (0, -9), (folder / "stderr").read_text()
    return last if code else "", steps


def saved(folder: Path) -> int:
    """The last step that is safe on disk."""
    found = folder.glob("run/store/train/*.begun/checkpoints/*")
    return max((int(p.name) for p in found if p.name.isdigit()), default=0)


def finished(folder: Path) -> dict[Path, int]:
    """When entries, and groups of networks, were made."""
    store = folder / "run" / "store"
    made = [*store.glob("*/*/entry.json"), *store.glob("zoo/*.begun/groups/*.safetensors")]
    return {path: path.stat().st_mtime_ns for path in made if ".begun/entry" not in str(path)}


def is_over(folder: Path, stage: str) -> bool:
    """Whether a run has finished a stage, in which it can then no longer be killed."""
    run, name = folder / "run", ENTRIES.get(stage)
    return any(run.glob(f"store/{name}/*[!n]/entry.json")) or (
        stage == "measuring" and (run / "records.json").exists()
    )


def check_kept(before: dict[Path, int], folder: Path) -> None:
    """Nothing that was finished is made again; groups end in the entry of their zoo."""
    after, zoo = finished(folder), list((folder / "run" / "store" / "zoo").glob("*/entry.json"))
    lost = {path for path, made in before.items() if after.get(path) != made}
    assert not {p for p in lost if "groups" not in p.parts or not zoo}, lost


def result(folder: Path) -> dict[str, str]:
    """Digests of all that a run is for, without what it cost."""
    found = {p: p.read_bytes().hex() for p in _files(folder, ".safetensors", ".png", "flow.json")}
    for path in _files(folder / "run", "records.json"):
        kept = [r for r in records.read(path) if r.metric not in COSTS]
        found[path] = [(dict(r.at), r.metric, r.value, r.std, r.error) for r in kept]
    page = (folder / "results" / "demo.md").read_text().splitlines()
    found[folder / "page"] = [line for line in page if not line.startswith("`python")]
    return {str(p.relative_to(folder)): digest_of_json(value) for p, value in found.items()}


def _files(folder: Path, *ends: str) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name.endswith(ends))


def one_run(folder: Path, usual: Usual, order: Iterable[str], rng: random.Random) -> Counter[str]:
    """A run killed in stages and then finished: kills by stage."""
    kills, lost = Counter(), 0
    folder.mkdir(parents=True)
    for stage in (*order, ""):
        if is_over(folder, stage):
            continue
        before, safe = finished(folder), saved(folder)
        if stage:
            where, steps = killed(folder, stage, usual, rng)
            kills[where] += bool(where)
        else:
            process = start(folder)
            steps = [int(name) for word, name, *_ in lines(process) if word == "from"]
            assert process.wait() == 0, (folder / "stderr").read_text()
        check_kept(before, folder)
        lost = max([lost, *(safe - step for step in steps)])
    different = {name for name, d in result(folder).items() if usual.result.get(name) != d}
    assert result(folder).keys() == usual.result.keys(), result(folder).keys()
    assert not different, different
    left = [p for p in folder.rglob("*") if p.name.endswith(LEFT)]
    assert not left, left
    assert lost <= 0, f"{lost} steps that were saved are lost"
    shutil.rmtree(folder)
    return kills


def main(folder: str, number: str = "200", seed: str = "0") -> Counter[str]:
    """Kill runs until there were `number` kills; returns them by stage."""
    rng, total, runs = random.Random(int(seed)), Counter(), 0
    usual = undisturbed(Path(folder) / "undisturbed")
    while (left := int(number) - total.total()) > 0:
        # A run that is to be killed only a few times, is killed in any of its stages.
        order = sorted(rng.sample(range(len(ORDER)), min(left, len(ORDER))))
        kills = one_run(Path(folder) / "run", usual, [ORDER[i] for i in order], rng)
        total, runs = total + kills, runs + 1
        found = ", ".join(f"{stage} {total[stage]}" for stage in ("starting", *STAGES))
        print(f"{total.total()} kills, {runs} runs with the same bits: {found}", flush=True)
    return total


if __name__ == "__main__":
    main(*sys.argv[1:])
