"""Real runs, really killed: what is resumed ends with the same bits."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "durable_run.py"
ROOT = SCRIPT.parents[2]
EVERY = 5


def start(folder):
    command = [sys.executable, str(SCRIPT), str(folder)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    # All runs of a test session compile the same programs.
    env["JAX_COMPILATION_CACHE_DIR"] = str(folder.parent / "compiled")
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def follow(process, until):
    """The lines that a run prints, up to the first one that `until` accepts."""
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.split())
        if until(lines):
            break
    return lines


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    process = start(tmp_path_factory.mktemp("whole"))
    lines = follow(process, lambda lines: False)
    assert process.wait() == 0
    return lines[-1]


@pytest.mark.slow
def test_kills_in_a_row_lose_no_more_than_the_last_save(tmp_path, undisturbed):
    """Kills fall anywhere, many into saves: each report begins one, and it takes a while.

    `make kills` kills whole runs, and more often.
    """
    rng = random.Random(0)
    safe, starts = 0, []
    for _ in range(8):
        process = start(tmp_path)
        after = rng.randint(1, 4)
        lines = follow(process, lambda lines, n=after: sum(a[0] == "saved" for a in lines) >= n)
        if rng.random() < 0.7:  # some kills at once, others a moment later
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 0.06))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0]
        lines += [line.split() for line in rest.splitlines()]
        assert process.returncode == -signal.SIGKILL
        starts.append(int(lines[0][1]))
        assert starts[-1] >= safe
        # A save ends before the next one begins; so all but the last one begun are on disk.
        safe = max([safe, *[int(a[1]) for a in lines if a[0] == "saved"][:-1]])
    assert starts == sorted(starts)
    assert starts[-1] > 0
    process = start(tmp_path)
    lines = follow(process, lambda lines: False)
    assert process.wait() == 0
    assert lines[-1] == undisturbed


@pytest.mark.slow
def test_a_kill_in_the_midst_of_a_save(tmp_path, undisturbed):
    """As soon as the folder of an unfinished save is seen."""
    process = start(tmp_path)
    follow(process, lambda lines: lines[-1][0] == "from")
    seen = False
    while not seen and process.poll() is None:
        seen = any("tmp" in p.name for p in (tmp_path / "checkpoints").glob("*"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert seen
    process = start(tmp_path)
    assert follow(process, lambda lines: False)[-1] == undisturbed
    assert process.wait() == 0


@pytest.mark.slow
def test_sigterm_saves_and_ends(tmp_path, undisturbed):
    process = start(tmp_path)
    follow(process, lambda lines: len(lines) > 4)
    process.send_signal(signal.SIGTERM)
    lines = [line for line in process.communicate()[0].splitlines() if line]
    assert process.returncode == 128 + signal.SIGTERM
    assert lines[-1].startswith("stopped by SIGTERM at step ")
    step = int(lines[-1].split("step ")[1].split(";")[0])
    process = start(tmp_path)
    lines = follow(process, lambda lines: False)
    assert int(lines[0][1]) == step
    assert lines[-1] == undisturbed
