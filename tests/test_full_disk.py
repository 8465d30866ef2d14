"""Where nothing can be written: one sentence, and what was there before stays."""

import contextlib
import os
import re
import resource
import subprocess

import pytest

from experiments import __main__ as program
from tests.experiments.tiny import QUICK
from tests.kills import result
from tests.readers import READERS, read_quietly
from wfm.errors import CannotWrite

ROOM = resource.RLIM_INFINITY
OURS = ("weights", "zoo", "group of a zoo", "flow", "config of a run", "records", "metrics")
OURS += ("entry of a store", "checkpoints")
AGAIN = ("weights", "zoo", "flow", "records", "metrics")  # which are written where they were


@contextlib.contextmanager
def full(size):
    """A disk that takes no file beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def read_only(folder):
    """A folder that may not be written to; to root, which may do anything, it is mounted so."""
    if os.geteuid():
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder])
    if mounted.returncode:
        pytest.skip("this root may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def refused(write, folder, told):
    with pytest.raises(CannotWrite) as error:
        write(folder)
    text = str(error.value)
    assert re.fullmatch(
        rf"{folder}.* cannot be written \((?:{told})\); make room .* again", text
    ), text


@pytest.mark.parametrize("name", OURS)
def test_a_full_disk(name, tmp_path):
    reader, first, folder = READERS[name], tmp_path / "first", tmp_path / "second"
    first.mkdir()
    with full(0):
        refused(reader.write, first, "File too large")
    folder.mkdir()
    reader.write(folder)
    good = read_quietly(reader, folder)
    if name in AGAIN:
        with full(0):
            refused(reader.write, folder, "File too large")
    assert read_quietly(reader, folder) == good


@pytest.mark.parametrize("name", OURS)
def test_a_folder_that_is_read_only(name, tmp_path):
    with read_only(tmp_path):
        refused(READERS[name].write, tmp_path, "Read-only file system|Permission denied")


@pytest.mark.slow
def test_a_run_goes_on_once_there_is_room(tmp_path, monkeypatch):
    """With a little more room each time it stops elsewhere, and it ends as one that had room."""
    study, told = ["demo:euclidean", *QUICK, "--config.zoo.at_once=4"], []

    def publish(folder, size):
        monkeypatch.setattr(program, "RESULTS", folder / "results")
        with full(size):
            for verb in ("run", "page"):
                program.main([verb, *study, f"--workdir={folder / 'run'}"])

    for size in (0, 1000, *range(1500, 10_000, 500), 20_000, 30_000, 50_000):
        with contextlib.suppress(SystemExit):
            try:
                publish(tmp_path / "short", size)
            except SystemExit as stop:
                told.append(str(stop))
                raise
    for folder in ("short", "whole"):
        publish(tmp_path / folder, ROOM)
    sentence = rf"error: {tmp_path}/short\S* cannot be written \(File too large\); make room or .*"
    assert [text for text in told if not re.fullmatch(sentence, text)] == []
    assert len(set(told)) > 5, told
    assert result(tmp_path / "short") == result(tmp_path / "whole")
