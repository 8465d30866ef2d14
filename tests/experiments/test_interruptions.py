"""The experiment stopped by SIGTERM and killed in the midst of its zoo, as a user would see it."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.experiments.test_uci import SMALL
from wfm.weights import load_weights

CONFIG = "--config=configs/uci.py:euclidean"
LONG = [*SMALL, "--config.training.steps=3000", "--config.training.report_every=5"]
LONG += ["--config.field.kind=mlp", "--config.zoo.at_once=1"]
LONG += ["--config.zoo.epochs=400", "--config.zoo.stride=100"]


def start(workdir):
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.uci", CONFIG, f"--workdir={workdir}", *LONG],
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
    groups = run / "zoo" / "groups"
    process = start(run)
    wait_for(process, lambda: len(list(groups.glob("*.safetensors"))) >= 2)
    process.kill()
    process.communicate()
    finished = {p: p.stat().st_mtime_ns for p in groups.glob("*.safetensors")}
    assert 2 <= len(finished) < 8  # of eight groups

    process = start(run)
    wait_for(process, lambda: len(list(groups.glob("*.safetensors"))) > len(finished))
    assert all(p.stat().st_mtime_ns == t for p, t in finished.items())  # not trained again
    metrics = run / "metrics.jsonl"
    wait_for(process, lambda: metrics.exists() and '"loss"' in metrics.read_text())
    process.terminate()
    error = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, error
    assert "stopped by SIGTERM at step" in error
    assert "the same command goes on from it" in error
    assert "Traceback" not in error

    for folder in (run, whole):
        process = start(folder)
        out, error = process.communicate()
        assert process.returncode == 0, error
        assert "samples" in out
    samples, others = (load_weights(f / "samples.safetensors")[0] for f in (run, whole))
    for name in others:
        np.testing.assert_array_equal(samples[name], others[name])
