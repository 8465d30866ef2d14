"""Folders of runs: what is wrong with one is said before any work, and nothing is lost."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import uci as configs
from experiments import mnist, report, uci
from experiments.command import UsageError, main
from experiments.workdir import Workdir
from tests.experiments.test_uci import SMALL
from wfm.training import Trainer
from wfm.weights import load_weights, save_weights
from wfm.zoo import WeightSet

ARGUMENTS = ["uci", "--config=configs/uci.py", *SMALL]
FINISHED = {"seconds": {"total": 1.0}, "peak_rss_mb": 1, "versions": {}, "together": {}}


def open_in(workdir, monkeypatch):
    """The sentence with which a run refuses its folder; or none, where it would begin to work."""
    for module in (uci, mnist):
        monkeypatch.setattr(module, "_run", lambda *_: pytest.fail("work began"))
    with pytest.raises(SystemExit) as error:
        main(uci.run, [*ARGUMENTS, f"--workdir={workdir}"])
    text = str(error.value)
    assert text.startswith("error: ")
    assert "\n" not in text
    return text


DAMAGES = {"truncated": b'{"seed": 0, "se', "empty": b"", "null": b"null", "a list": b"[1]"}
DAMAGES |= {"binary": b"\xff\xfe\0\1", "of other things": b'{"seed": 0}'}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_files_that_are_damaged(name, damage, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(DAMAGES[damage])
    text = open_in(tmp_path, monkeypatch)
    if (name, damage) == ("config.json", "of other things"):
        assert "holds a run with another config (different: activation, " in text
    else:
        assert f"{tmp_path / name} is damaged; delete it" in text
    assert (tmp_path / name).read_bytes() == DAMAGES[damage]


def test_metrics_that_are_damaged_do_not_stop_a_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'\xff\n[1]\n{"stage": "zoo", "seconds": 2}\n{"st')
    with pytest.warns(UserWarning, match="3 damaged lines are skipped") as told:
        workdir = Workdir(tmp_path, configs.get_config())
        for _ in range(2):
            assert workdir.seconds() == {"zoo": 2, "total": 2}
    assert len(told) == 1


NO_FOLDERS = {
    "a file": ("file", "file cannot be the folder of a run (File exists); choose another"),
    "below a file": ("file/run", "file/run cannot be the folder of a run (Not a directory)"),
    "a long name": ("x" * 300, "cannot be the folder of a run (File name too long)"),
    "where nothing can be written": ("/proc/run", "/proc/run cannot be the folder of a run (No"),
    "checkpoints are a file": ("run", "run/checkpoints is a file where the run keeps a folder"),
    "the report is a folder": ("other", "other/report.html is a folder where the run keeps a file"),
}


@pytest.mark.parametrize("name", NO_FOLDERS)
def test_what_cannot_be_the_folder_of_a_run(name, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").touch()
    (tmp_path / "other" / "report.html").mkdir(parents=True)
    place, message = NO_FOLDERS[name]
    assert message in open_in(tmp_path / place, monkeypatch)


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
    config = configs.get_config()
    other, said = other_process(tmp_path)
    try:
        assert said == "locked"
        told = rf"process {other.pid} on a machine is writing to {tmp_path}; wait for it"
        with pytest.raises(UsageError, match=told):
            Workdir(tmp_path, config)
        assert not (tmp_path / "config.json").exists()
    finally:
        other.kill()  # after which nothing of its lock is left
        other.communicate()
    first = Workdir(tmp_path, config)
    second = Workdir(tmp_path, config)
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
    Workdir(tmp_path, configs.get_config())
    assert not (tmp_path / "lock").exists()


def test_a_kill_before_the_report_is_written_leaves_no_results(tmp_path, monkeypatch):
    experiment: Any = SimpleNamespace(config=configs.get_config())
    workdir = Workdir(tmp_path, experiment.config)

    def killed(*_):
        raise KeyboardInterrupt

    for name in ("prepare", "sample"):
        monkeypatch.setattr(uci, name, lambda *_: None)
    monkeypatch.setattr(uci, "evaluate_samples", lambda *_: ({"samples": 1}, {}))
    monkeypatch.setattr(report, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        uci._run(experiment, workdir)
    assert workdir.results() is None
    written = []
    monkeypatch.setattr(report, "write", lambda workdir, results, _: written.append(results))
    uci._run(experiment, workdir)
    assert written == [workdir.results()]


@pytest.mark.parametrize("module", [uci, mnist])
def test_results_whose_report_is_gone_are_made_again_with_it(module, tmp_path, monkeypatch):
    config, made = configs.get_config(), []
    monkeypatch.setattr(module, "Experiment", lambda config: SimpleNamespace(config=config))
    monkeypatch.setattr(mnist, "check", lambda config: None)
    monkeypatch.setattr(mnist, "table", lambda together: "")
    monkeypatch.setattr(report, "table", lambda results: "")
    monkeypatch.setattr(module, "_run", lambda *_: made.append(1) or FINISHED)
    (tmp_path / "results.json").write_text(json.dumps(FINISHED))
    module.run(config, str(tmp_path))
    assert made == [1]
    (tmp_path / "report.html").touch()
    module.run(config, str(tmp_path))
    assert made == [1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a zoo and a flow."""
    folder = tmp_path_factory.mktemp("run")
    prepare(folder)
    return folder


class Quick(uci.Experiment):
    """Networks that are not trained, and a flow of one parameter, to save compilations."""

    def make_zoo(self, folder=None):
        draw = self.initial.random
        weights = jax.vmap(draw)(jax.random.split(self.keys["zoo"], self.config.zoo.networks))
        numbers = jnp.arange(self.config.zoo.networks)
        return WeightSet(weights, numbers, numbers, {}, weights)

    def reference(self, zoo):
        return zoo.at(0)

    def make_flow(self, data) -> Any:
        return None, {}

    def make_field(self, flow, unit) -> Any:
        return None

    def make_trainer(self, flow, field):
        loss = lambda w, example: (w**2).sum()  # noqa: E731
        return Trainer(loss, self.optimizer, batch_size=2), lambda w: w, jnp.ones(2)

    def make_validation(self, flow, bind, unseen) -> Any:
        return lambda w: 0.0


def prepare(folder):
    def only(config, path):
        uci.prepare(Quick(config), Workdir(path, config))

    plain = ["--config.flow.kind=euclidean", "--config.flow.align=none"]
    plain += ["--config.training.optimizer=adam"]
    main(only, [*ARGUMENTS, f"--workdir={folder}", *plain])


def as_integers(arrays, marks):
    whole = {n: a.astype(np.int32) if n.startswith("weights/") else a for n, a in arrays.items()}
    return whole, marks


def one_number(arrays, marks):
    name = "weights/dense1.kernel"
    kernel = arrays[name].copy()
    kernel[0, 0, 0] += 1
    return arrays | {name: kernel}, marks


ALTERED = {
    "cast": (as_integers, "was altered or damaged since its zoo was saved"),
    "cast, without its seal": (
        lambda a, m: as_integers(a, {}),
        "holds int32, and weights are floating-point numbers",
    ),
    "one number": (one_number, "was altered or damaged since its zoo was saved"),
    "one number, without its seal": (
        lambda a, m: one_number(a, {}),
        "checkpoints holds a state of another config (different: digest of the zoo)",
    ),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_flow_is_never_used_with_a_zoo_that_it_did_not_learn_from(name, trained, as_in_use):
    file = trained / "zoo" / "zoo.safetensors"
    before = file.read_bytes()
    change, message = ALTERED[name]
    save_weights(file, *change(*load_weights(file)))
    with pytest.raises(SystemExit, match=re.escape(message)) as error:
        prepare(trained)
    assert str(trained) in str(error.value) or "is int32" in message
    file.write_bytes(before)
    prepare(trained)  # which goes on as if nothing had been
