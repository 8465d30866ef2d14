"""A run stopped by SIGTERM and killed in the midst of its zoo, as a user would see it."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments import records
from experiments.store import about
from tests.experiments.tiny import QUICK
from wfm.weights import load_weights

LONG = [*QUICK, "--config.training.steps=3000", "--config.training.report_every=5"]
LONG += ["--config.zoo.at_once=1", "--config.zoo.epochs=400", "--config.zoo.stride=100"]


def start(workdir):
    run = ["run", "demo:euclidean", f"--workdir={workdir}", *LONG]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *run],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(process, seen):
    while not seen():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_as_one_that_was_not(tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    kept = run / "store"
    groups = lambda: set(kept.glob("zoo/*.begun/groups/*.safetensors"))  # noqa: E731
    process = start(run)
    wait_for(process, lambda: len(groups()) >= 2)
    process.kill()
    process.communicate()
    finished = {p: p.stat().st_mtime_ns for p in groups()}
    assert 2 <= len(finished) < 8  # of eight groups
    assert not list(kept.glob("zoo/*/entry.json"))

    process = start(run)
    wait_for(process, lambda: len(groups()) > len(finished))
    assert all(p.stat().st_mtime_ns == t for p, t in finished.items())  # not trained again
    metrics = lambda: [p.read_text() for p in kept.glob("train/*.begun/metrics.jsonl")]  # noqa: E731
    wait_for(process, lambda: any('"loss"' in text for text in metrics()))
    process.terminate()
    error = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, error
    assert "stopped by SIGTERM at step" in error
    assert "the same command goes on from it" in error
    assert "Traceback" not in error
    (begun,) = kept.glob("train/*.begun")
    before = float((begun / "seconds").read_text())  # spent until then
    assert before > 0
    assert list((begun / "checkpoints").iterdir())
    zoo = {p: p.stat().st_mtime_ns for p in kept.glob("zoo/*/*")}
    assert zoo
    assert not (run / "records.json").exists()

    for folder in (run, whole):
        process = start(folder)
        out, error = process.communicate()
        assert process.returncode == 0, error
        assert "samples" in out
    assert all(p.stat().st_mtime_ns == t for p, t in zoo.items())  # not made again
    assert not [p for p in kept.rglob("*") if p.name.endswith((".begun", ".lock", ".damaged"))]
    (entry,) = kept.glob("train/*/entry.json")
    assert about(entry.parent)["seconds"] > before  # all tries together
    samples, others = (
        load_weights(f / "cells" / "seed=0" / "samples.safetensors")[0] for f in (run, whole)
    )
    for name in others:
        np.testing.assert_array_equal(samples[name], others[name])
    figures, others = (
        [(x.at, x.metric, x.value) for x in records.read(f / "records.json") if "set" in x.at]
        for f in (run, whole)
    )
    assert figures == others
