"""Collections that others published, laid out as their code reads them."""

import csv
import gzip
import json
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.io.torch_nets import LAYOUT, SPEC, WIDTHS, torch_mlp, torch_outputs, vectors
from wfm.errors import UserError
from wfm.io import SMALL_CNN_ZOO, examine, load_networks
from wfm.io.nested import nest
from wfm.weights import cnn

CNN = cnn(1, 16, 16, 16, d_out=10)
# As in the notebook of Unterthiner et al. (2020): in each layer the bias, then the kernel.
COLUMNS = [("conv2d", 3, 1, 16), ("conv2d_1", 3, 16, 16), ("conv2d_2", 3, 16, 16)]


def small_cnn_zoo(folder, runs=3, epochs=(0, 1, 86)):
    """The matrix, and its three files, with the columns that the README lists."""
    folder.mkdir()
    rng, n = np.random.default_rng(0), runs * len(epochs)
    matrix = rng.normal(size=(n, 4970)).astype("f4")
    np.save(folder / "weights.npy", matrix)
    shapes = [(f"sequential/{name}", (k, k, a, b)) for name, k, a, b in COLUMNS]
    start, rows = 0, []
    for name, shape in [*shapes, ("sequential/dense", (16, 10))]:
        for array, of in (("bias", shape[-1:]), ("kernel", shape)):
            size = int(np.prod(of))
            rows.append([f"{name}/{array}:0", start, start + size, size, str(of)])
            start += size
    with (folder / "layout.csv").open("w") as file:
        csv.writer(file).writerows([["varname", "start_idx", "end_idx", "size", "shape"], *rows])
    lines = ["config.activation,config.learning_rate,modeldir,step,test_accuracy,test_loss"]
    for run in range(runs):
        for step in epochs:
            act = "tanh" if run == 1 else "relu"
            here = f"/some/where/{run}/permanent_ckpt-{step}"
            lines.append(f"{act},0.001,{here},{step},{step / 128},{run}")
    (folder / "metrics.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return matrix


def test_the_small_cnn_zoo(tmp_path, monkeypatch):
    matrix = small_cnn_zoo(tmp_path / "mnist")
    images = np.random.default_rng(1).normal(size=(3, 9, 9, 1)).astype("f4")
    zoo = load_networks(tmp_path / "mnist", CNN, SMALL_CNN_ZOO, images)
    assert zoo.trajectory.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert zoo.step.tolist() == [0, 1, 86] * 3
    assert set(zoo.metrics) == {"test_accuracy", "test_loss"}
    np.testing.assert_array_equal(zoo.metrics["test_loss"], [0, 0, 0, 1, 1, 1, 2, 2, 2])
    # Where that notebook says the columns are.
    np.testing.assert_array_equal(zoo.weights["conv1.bias"], matrix[:, :16])
    np.testing.assert_array_equal(
        zoo.weights["conv2.kernel"], matrix[:, 176:2480].reshape(-1, 3, 3, 16, 16)
    )
    np.testing.assert_array_equal(zoo.weights["dense.kernel"], matrix[:, 4810:].reshape(-1, 16, 10))
    monkeypatch.setattr("wfm.io.small_cnn_zoo.BLOCK", 2)
    some = load_networks(
        tmp_path / "mnist",
        CNN,
        SMALL_CNN_ZOO,
        where=lambda net: net.step == 86 and net.about["config.activation"] == "relu",
    )
    np.testing.assert_array_equal(some.weights["conv1.bias"], matrix[[2, 8], :16])
    assert some.trajectory.tolist() == [0, 1]
    found = examine(tmp_path / "mnist")
    assert (found.kind, found.count, found.trajectories) == ("Small CNN Zoo", 9, 3)
    assert found.arrays["sequential/conv2d/kernel:0"] == "float32 (3, 3, 1, 16)"
    matrix[4, 7] = np.nan
    np.save(tmp_path / "mnist" / "weights.npy", matrix)
    for spec, layout in ((CNN, SMALL_CNN_ZOO), (None, None)):
        found = examine(tmp_path / "mnist", spec, layout)
        assert (found.count, [name for name, _ in found.bad]) == (8, ["weights.npy [4]"])
    assert len(load_networks(tmp_path / "mnist", CNN, SMALL_CNN_ZOO, skip_bad=True)) == 8


def test_a_small_cnn_zoo_that_does_not_fit_together_is_refused(tmp_path):
    small_cnn_zoo(tmp_path / "mnist")

    def refused(name, content, why):
        folder = shutil.copytree(tmp_path / "mnist", tmp_path / "copy")
        (folder / name).write_bytes(content) if content else (folder / name).unlink()
        with pytest.raises(UserError, match=why):
            load_networks(folder, CNN, SMALL_CNN_ZOO)
        shutil.rmtree(folder)

    layout = (tmp_path / "mnist" / "layout.csv").read_bytes()
    matrix = (tmp_path / "mnist" / "weights.npy").read_bytes()
    metrics = gzip.decompress((tmp_path / "mnist" / "metrics.csv.gz").read_bytes())
    refused("layout.csv", layout.replace(b"start_idx", b"start"), "'start_idx', 'end_idx' and")
    refused("layout.csv", layout.replace(b",16,160,", b",15,159,"), "does not say what each column")
    refused("layout.csv", layout.replace(b"4810,4970", b"4810,x"), "'varname', 'start_idx'")
    refused("weights.npy", matrix[:5000], "weights.npy is damaged, or incomplete")
    refused("metrics.csv.gz", None, r"has no metrics\.csv, which says from which run")
    refused("metrics.csv.gz", metrics.rpartition(b"\n")[0], "about 8 networks, and .* holds 9")
    refused("metrics.csv.gz", metrics.replace(b"modeldir", b"folder"), "lacks 'modeldir' or 'step'")
    refused("metrics.csv.gz", b"\x1f\x8b12345678901", r"metrics\.csv\.gz is damaged")


def model_zoo(folder, runs=3, epochs=(0, 1, 10)):
    """What Ray Tune writes: trials with settings, results and checkpoints of epochs."""
    import torch

    modules = {}
    for run in range(runs):
        trial = folder / f"NN_tune_trainable_a{run}_{run + 8}_lr=0.1,seed={run}_2021-01-01"
        lines = []
        for epoch in range(11):
            line = {"train_loss": -999 if not epoch else 0.5, "test_acc": epoch / 16 + run}
            line |= {"training_iteration": epoch, "trial_id": "x", "config": {"lr": 0.1}}
            lines.append(json.dumps(line | {"pid": 7, "timestamp": 1e9, "time_total_s": 3.0}))
        for epoch in epochs:
            place = trial / f"checkpoint_{epoch:06d}"
            place.mkdir(parents=True)
            module = modules[run, epoch] = torch_mlp(*WIDTHS, seed=20 * run + epoch)
            torch.save(module.state_dict(), place / "checkpoints")
            torch.save({"state": {}}, place / "optimizer")
        (trial / "params.json").write_text(json.dumps({"lr": 0.1, "seed": run}))
        (trial / "result.json").write_text("\n".join(lines) + "\n")
    (folder / "experiment_state.json").write_text("{}")
    return modules


def test_a_model_zoo(tmp_path):
    pytest.importorskip("torch")
    modules = model_zoo(tmp_path / "zoo")
    outputs = torch_outputs(list(modules.values()), vectors())
    zoo = load_networks(tmp_path / "zoo", SPEC, LAYOUT, vectors(), outputs)
    assert zoo.trajectory.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert zoo.step.tolist() == [0, 1, 10] * 3
    assert set(zoo.metrics) == {"train_loss", "test_acc"}
    np.testing.assert_array_equal(
        zoo.metrics["test_acc"], [epoch / 16 + run for run, epoch in modules]
    )
    assert np.isnan(zoo.metrics["train_loss"]).tolist() == [True, False, False] * 3
    seen, held_out = zoo.split(1 / 3)
    assert len(held_out) == 3 and not {*held_out.trajectory.tolist()} & {*seen.trajectory.tolist()}
    last = load_networks(
        tmp_path / "zoo",
        SPEC,
        LAYOUT,
        where=lambda net: net.step == 10 and net.about["config.seed"] > 0,
    )
    assert last.step.tolist() == [10, 10]
    one = next(p for p in (tmp_path / "zoo").iterdir() if p.is_dir())
    assert len(load_networks(one, SPEC, LAYOUT)) == 3


def test_a_run_of_orbax_is_one_trajectory(tmp_path):
    rng = np.random.default_rng(0)
    steps = {step: {n: rng.normal(size=SPEC.shape(n)) for n in SPEC.arrays} for step in (2, 10, 9)}
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in sorted(steps):
            tree = {"params": nest(steps[step])}
            manager.save(step, args=ocp.args.StandardSave(tree))
    zoo = load_networks(tmp_path / "run", SPEC)
    assert zoo.step.tolist() == [2, 9, 10]
    assert zoo.trajectory.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(
        zoo.weights["dense1.bias"][2], steps[10]["dense1.bias"].astype("f4")
    )
    assert examine(tmp_path / "run", SPEC).kind == "run"


def test_runs_that_were_cut_off_are_read_as_far_as_they_go(tmp_path):
    pytest.importorskip("torch")
    model_zoo(tmp_path / "zoo")
    first, second, third = sorted(p for p in (tmp_path / "zoo").iterdir() if p.is_dir())
    results = (first / "result.json").read_text()
    (first / "result.json").write_text(results[:-30])
    (second / "result.json").write_text(results[50:])
    (third / "checkpoint_000001" / "checkpoints").unlink()
    found = examine(tmp_path / "zoo", SPEC, LAYOUT)
    assert found.kind == "Model Zoo"
    reasons = {name.split("_", 3)[3]: reason for name, reason in found.bad}
    assert len(reasons) == 4 and found.count == 5
    assert set(reasons.values()) == {
        "line 1 of result.json is no JSON",
        "it has no file 'checkpoints'",
    }
    zoo = load_networks(tmp_path / "zoo", SPEC, LAYOUT, skip_bad=True)
    assert np.isnan(zoo.metrics["test_acc"][2])  # the line that was cut off
