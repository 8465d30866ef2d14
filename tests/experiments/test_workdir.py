"""Folders of runs: what is wrong with one is said before any work, and nothing is lost."""

import dataclasses
import os
import subprocess
import sys

import jax
import pytest

from experiments import __main__ as program
from experiments.study import load
from experiments.workdir import Workdir
from tests.experiments.tiny import QUICK
from wfm.errors import UserError

STUDY = load("demo")


def open_in(workdir, monkeypatch, *more):
    """The sentence with which a run refuses its folder; or none, where it would begin to work."""
    monkeypatch.setattr(program, "run_study", lambda *_: pytest.fail("work began"))
    with pytest.raises(SystemExit) as error:
        program.main(["run", "demo", *QUICK, f"--workdir={workdir}", *more])
    text = str(error.value)
    assert text.startswith("error: ")
    assert "\n" not in text
    return text


DAMAGES = {"truncated": b'{"seed": 0, "se', "empty": b"", "null": b"null", "a list": b"[1]"}
DAMAGES |= {"binary": b"\xff\xfe\0\1", "of other things": b'{"seed": 0}'}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_config_that_is_damaged(damage, tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    file.write_bytes(DAMAGES[damage])
    text = open_in(tmp_path, monkeypatch)
    if damage == "of other things":
        assert "holds a run with another config (different: devices, " in text
    else:
        assert f"{file} is damaged; delete it" in text
    assert file.read_bytes() == DAMAGES[damage]


NO_FOLDERS = {
    "a file": ("file", "file cannot be the folder of a run (File exists); choose another"),
    "below a file": ("file/run", "file/run cannot be the folder of a run (Not a directory)"),
    "a long name": ("x" * 300, "cannot be the folder of a run (File name too long)"),
    "where nothing can be written": ("/proc/run", "/proc/run cannot be the folder of a run (No"),
    "cells are a file": ("run", "run/cells is a file where the run keeps a folder"),
    "the report is a folder": ("other", "other/report.html is a folder where the run keeps a file"),
}


@pytest.mark.parametrize("name", NO_FOLDERS)
def test_what_cannot_be_the_folder_of_a_run(name, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cells").touch()
    (tmp_path / "other" / "report.html").mkdir(parents=True)
    place, message = NO_FOLDERS[name]
    assert message in open_in(tmp_path / place, monkeypatch)


def test_a_store_that_cannot_be_one_is_refused_before_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    text = open_in(tmp_path / "run", monkeypatch, f"--store={tmp_path / 'file' / 'store'}")
    assert "file/store cannot be a store (Not a directory); choose another --store" in text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["seed=3"], "different: seed"),
        (["zoo.networks=9", "flow.sigma=0.5"], "different: flow.sigma, zoo.networks"),
    ],
)
def test_the_folder_of_another_config_is_refused_and_stays_as_it_was(options, told, tmp_path):
    Workdir(tmp_path, STUDY)
    before = (tmp_path / "config.json").read_bytes()
    match = rf"{tmp_path} holds a run with another config \({told}\); choose another --workdir"
    with pytest.raises(UserError, match=match):
        Workdir(tmp_path, STUDY.overridden(options))
    assert (tmp_path / "config.json").read_bytes() == before
    Workdir(tmp_path, STUDY)


def test_the_folder_of_another_study_is_refused(tmp_path):
    Workdir(tmp_path, STUDY)
    with pytest.raises(UserError, match=r"another config \(different: study\)"):
        Workdir(tmp_path, dataclasses.replace(STUDY, name="other"))


OTHER = """
import fcntl, os, sys, time
file = open(sys.argv[1], "a+")
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.truncate(0)
    print(f"process {os.getpid()} on a machine", file=file, flush=True)
    print("locked", flush=True)
    time.sleep(99)
except BlockingIOError:
    print("refused", flush=True)
"""


def other_process(folder):
    """One that locks the folder, or tries to, and what it says of it."""
    command = [sys.executable, "-c", OTHER, str(folder / "lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    other, said = other_process(tmp_path)
    try:
        assert said == "locked"
        told = rf"process {other.pid} on a machine is writing to {tmp_path}; wait for it"
        with pytest.raises(UserError, match=told):
            Workdir(tmp_path, STUDY)
        assert not (tmp_path / "config.json").exists()
    finally:
        other.kill()  # after which nothing of its lock is left
        other.communicate()
    first = Workdir(tmp_path, STUDY)
    second = Workdir(tmp_path, STUDY)
    assert str(os.getpid()) in (tmp_path / "lock").read_text()
    del first
    assert other_process(tmp_path)[1] == "refused"
    del second
    free, said = other_process(tmp_path)
    free.kill()
    free.communicate()
    assert said == "locked"


def test_other_processes_of_the_same_run_do_not_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    Workdir(tmp_path, STUDY)
    assert not (tmp_path / "lock").exists()
