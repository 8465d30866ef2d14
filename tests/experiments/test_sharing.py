"""What runs of the same settings share."""

import errno
import os

import pytest

from configs import mnist
from experiments.command import UsageError
from experiments.sharing import _link, sharing


def test_a_second_name_for_the_same_which_another_study_may_have_made(tmp_path):
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "checkpoints" / "3" / "state").write_text("state")
    (tmp_path / "zoo").write_text("zoo")
    shared = tmp_path / "shared"
    for _ in range(2):
        _link(tmp_path / "checkpoints", shared / "checkpoints")
        _link(tmp_path / "zoo", shared / "zoo")
    assert {path.name for path in shared.iterdir()} == {"checkpoints", "zoo"}
    assert (shared / "checkpoints" / "3" / "state").read_text() == "state"
    assert (shared / "zoo").samefile(tmp_path / "zoo")


def train(folder):
    """Write what a run trains, unless it is there; whether it was."""
    files = folder / "zoo" / "zoo.safetensors", folder / "checkpoints" / "state"
    there = [file.exists() for file in files]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(folder.name)
    return there


def test_runs_share_what_depends_on_the_same_settings(tmp_path):
    def run(name, shared=tmp_path / "shared", **changes):
        config = mnist.get_config()
        config.update(changes)
        with sharing(shared, config, tmp_path / name):
            return train(tmp_path / name)

    assert run("first") == [False, False]
    assert run("sampled otherwise", sampling={"steps": 3}) == [True, True]
    assert run("trained otherwise", training={"steps": 3}) == [True, False]
    assert run("other networks", hidden=(3,)) == [False, False]
    assert run("alone", shared="") == [False, False]


def test_a_shared_folder_that_cannot_be_one_is_refused_before_work(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match=r"file/shared cannot be a shared folder \(Not a directory"),
        sharing(tmp_path / "file" / "shared", mnist.get_config(), tmp_path / "run"),
    ):
        pytest.fail("work began")


def test_another_file_system_gets_a_copy(tmp_path, monkeypatch):
    def no_link(old, new):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "zoo").write_text("zoo")
    _link(tmp_path / "zoo", tmp_path / "shared" / "zoo")
    assert (tmp_path / "shared" / "zoo").read_text() == "zoo"
