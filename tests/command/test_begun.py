"""`wfm learn` that was stopped goes on where it was, to the same bits."""

import fcntl
from contextlib import contextmanager

import pytest

from tests.io.torch_nets import networks as drawn
from wfm.command import learn
from wfm.io import write_arrays
from wfm.weights import mlp

STEPS = 6
STOPPED = 130
ARGV = ("--network", "mlp:4,5,3", "--width", 4, "--steps", STEPS)


@pytest.fixture
def zoo(tmp_path):
    path = tmp_path / "zoo.npz"
    write_arrays(path, drawn(6, mlp(4, 5, 3)), "npz")
    return path


@pytest.fixture
def bars(monkeypatch):
    """The steps at which bars started; `stop_at` raises what Ctrl-C does."""

    class Bars(list):
        stop_at = STEPS + 1

    found = Bars()

    @contextmanager
    def bar(description, total, done=0):
        def update(step, note):
            if step >= found.stop_at:
                raise KeyboardInterrupt

        found.append(done)
        yield update

    monkeypatch.setattr(learn, "bar", bar)
    monkeypatch.setattr(learn, "CHUNK", 2)
    return found


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_bits(
    zoo, bars, wfm, refused, monkeypatch, tmp_path
):
    whole, parts = tmp_path / "whole.zip", tmp_path / "parts.zip"
    begun = tmp_path / "parts.zip.begun"
    wfm("learn", zoo, *ARGV, "--out", whole)

    monkeypatch.setattr(learn, "SECONDS", 0.0)
    bars.stop_at = 4
    said = wfm("learn", zoo, *ARGV, "--out", parts, status=STOPPED)
    assert f"goes on from {begun}" in said
    assert begun.is_dir() and not parts.exists()

    other = tmp_path / "other.npz"
    write_arrays(other, drawn(6, mlp(4, 5, 3), seed=1), "npz")
    for path, more, what in (
        (zoo, ("--seed", 1), "--seed"),
        (zoo, ("--width", 8), "--width"),
        (zoo, ("--steps", 8), "--steps"),
        (zoo, ("--network", "mlp:4,5,3,activation=tanh"), "--network"),
        (other, (), "networks"),
    ):
        said = refused("learn", path, *ARGV, *more, "--out", parts)
        assert f"{begun}" in said and f"(different: {what})" in said
        assert "choose another --out, or delete it to start anew" in said

    bars.stop_at = STEPS + 1
    wfm("learn", zoo, *ARGV, "--out", parts)
    assert bars[:2] == [0, 0] and bars[-1] == 4
    assert parts.read_bytes() == whole.read_bytes()
    assert not begun.exists()


@pytest.mark.slow
def test_nothing_stays_of_a_training_that_had_saved_nothing(zoo, bars, wfm, monkeypatch, tmp_path):
    monkeypatch.setattr(learn, "SECONDS", float("inf"))
    bars.stop_at = 2
    wfm("learn", zoo, *ARGV, "--out", tmp_path / "flow.zip", status=STOPPED)
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.npz"]


@pytest.mark.slow
def test_a_training_that_diverges_leaves_nothing_to_go_on_from(
    zoo, bars, refused, monkeypatch, tmp_path
):
    monkeypatch.setattr(learn, "SECONDS", 0.0)
    monkeypatch.setattr(learn, "RATE", 1e30)
    said = refused("learn", zoo, *ARGV, "--out", tmp_path / "flow.zip")
    assert "became NaN or infinite at step" in said and "try another --seed" in said
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.npz"]


def test_a_folder_that_another_process_trains_in_is_refused(zoo, refused, tmp_path):
    begun = tmp_path / "flow.zip.begun"
    begun.mkdir()
    with (begun / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        said = refused("learn", zoo, *ARGV, "--out", tmp_path / "flow.zip")
    assert f"another process trains in {begun}" in said and begun.is_dir()
