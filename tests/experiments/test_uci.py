"""The experiment as a user runs it: a small run, resuming, and wrong input."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from wfm.weights import load_weights

SMALL = [
    "--config.task=iris",
    "--config.hidden=(6,)",
    "--config.zoo.networks=8",
    "--config.zoo.epochs=4",
    "--config.zoo.burn_in=1",
    "--config.zoo.stride=2",
    "--config.zoo.held_out=0.25",
    "--config.field.width=8",
    "--config.field.depth=1",
    "--config.training.steps=6",
    "--config.training.report_every=3",
    "--config.sampling.networks=5",
    "--config.sampling.steps=3",
]


def command(*arguments):
    """Run the experiment in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.uci", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


VARIANTS = {
    "euclidean": [
        "--config.sampling.trajectories=True",
        "--config.sampling.chunk=3",
        "--config.flow.coupling=trajectory",
        "--config.field.own_embedding=fixed",
        "--config.training.optimizer=adam",
    ],
    "normalized": [
        "--config.flow.coupling=ot",
        "--config.flow.align=sinkhorn_mid",
        "--config.field.kind=mlp",
    ],
    "geometric": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", VARIANTS)
def test_a_run_writes_all_it_promises_and_repeats_its_figures(tmp_path, kind):
    config = f"--config=configs/uci.py:{kind}"
    first = command(config, f"--workdir={tmp_path / 'a'}", *SMALL, *VARIANTS[kind])
    assert first.returncode == 0, first.stderr
    for name in ("config.json", "metrics.jsonl", "samples.safetensors", "zoo/zoo.safetensors"):
        assert (tmp_path / "a" / name).stat().st_size > 0
    page = (tmp_path / "a" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "samples of the flow" in first.stdout
    assert "report.html" in first.stdout.splitlines()[-1]
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    for row in ("target", "samples", "held_out", "noisy", "averaged"):
        assert 0 <= results[row]["accuracy"]["mean"] <= 1
        assert results[row]["loss"]["std"] >= 0
    assert results["novelty"]["ratio"] > 0
    assert results["seconds"].keys() == {"zoo", "align", "train", "sample", "evaluate", "total"}
    assert results["peak_rss_mb"] > 0
    assert results["versions"]["jax"]
    if kind == "euclidean":
        samples, _ = load_weights(tmp_path / "a" / "samples.safetensors")
        parts = [load_weights(p)[0] for p in sorted((tmp_path / "a" / "trajectories").iterdir())]
        assert [len(part["dense1.kernel"]) for part in parts] == [3, 2]
        ends = np.concatenate([part["dense1.kernel"] for part in parts])[:, -1]
        np.testing.assert_allclose(ends, samples["dense1.kernel"], atol=1e-5)

    if kind != "geometric":
        return
    # The same command again: nothing is done twice, and the same is printed.
    again = command(config, f"--workdir={tmp_path / 'a'}", *SMALL)
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    # Elsewhere, from a copy that has no results yet: zoo and training are there already.
    other = tmp_path / "b"
    shutil.copytree(tmp_path / "a", other)
    (other / "results.json").unlink()
    (other / "report.html").unlink()
    resumed = command(config, f"--workdir={other}", *SMALL)
    assert resumed.returncode == 0, resumed.stderr
    assert (other / "report.html").exists()
    repeated = json.loads((other / "results.json").read_text())
    for row in ("target", "samples", "novelty"):
        assert repeated[row] == results[row]
    # With another config the folder is refused and stays as it was.
    refused = command(config, f"--workdir={other}", *SMALL, "--config.seed=3")
    assert refused.returncode == 1
    assert "another config (different: seed); choose another --workdir" in refused.stderr
    assert json.loads((other / "results.json").read_text()) == repeated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/uci.py:cubic"], "flow.kind is 'cubic'; choose one of euclidean"),
        (["--config=configs/none.py"], "none.py"),
        (
            ["--config.zoo.network=3"],
            "unknown config key 'zoo.network'; did you mean zoo.networks?",
        ),
        (["--config.zoo.networks=many"], "config.zoo.networks=many"),
        (["--config.training.steps=0"], "config.training.steps is 0; it must be at least 1"),
        (["--config.sampling.networks=-2"], "config.sampling.networks is -2"),
        (["--config.seed=-1"], "config.seed is -1; it must be at least 0"),
        (["--config.zoo.prior_std=0.0"], "must be positive, got 0.0"),
        (["--config.zoo.learning_rate=nan"], "cannot be negative, infinite or NaN"),
        (["--config.zoo.held_out=1.5"], "holding out 150% of 100 trajectories"),
        (["--config.zoo.networks=3"], "holding out 15% of 3 trajectories"),
        (["--config.flow.time_b=0.0"], "b of Beta(1, b) must be positive"),
        (["--config.training.learning_rate=0.0"], "the learning rate must be positive"),
        (["--config.training.decay=1.0"], "decay must lie in"),
        (["--config.zoo.burn_in=50"], "burn_in must lie in"),
        (["--config.flow.kind=cubic"], "config.flow.kind is 'cubic'; choose one of euclidean"),
        (["--config.flow.last_layer=cube"], "choose one of sphere"),
        (["--config.flow.sigma=-1.0"], "cannot be negative"),
        (["--config.task=moon"], "unknown task 'moon'"),
        (["--config.flow.align=procrustes"], "choose one of none, weights, activations"),
        (["--config.flow.coupling=optimal"], "choose one of independent, ot, entropic"),
        (
            ["--config.flow.coupling=equivariant"],
            "misleads a field that tells hidden neurons",
        ),
        (
            ["--config.flow.coupling=trajectory", "--config.field.kind=mlp"],
            "misleads a field that tells hidden neurons",
        ),
        (["--config.field.kind=cnn"], "choose one of transformer, full_transformer, pna, mlp"),
        (["--config.field.own_embedding=some"], "choose one of all, fixed, none"),
        (["--config.training.keep=all"], "config.training.keep is 'all'; choose one of last, best"),
        (["--config.zoo.at_once=0"], "config.zoo.at_once is 0; it must be at least 1"),
        (["--config.training.optimizer=sgd"], "choose one of adam, muon"),
        (["--config.sampling.solver=heun"], "choose one of euler, midpoint, rk4"),
        (["--config.sampling.grid=dense"], "choose one of uniform, denser_early"),
        (["--config.sampling.noise=-0.1"], "config.sampling.noise is -0.1; it cannot be negative"),
        (["--config.sampling.noise_start=1.0"], "window with 0 ≤ start < end ≤ 1"),
        (["--config.sampling.guidance=-1.0"], "config.sampling.guidance is -1.0; it cannot"),
        (["--config.sampling.guidance_at=x_0"], "choose one of end_point, x_t"),
        (["--config.sampling.guidance_rate=cosine"], "choose one of constant, falling, hill"),
        (
            ["--config.devices=3"],
            "does not divide among 3 devices; take batch_size 33",
        ),
        (['--config.hidden=(16,"a")'], "is (16, 'a'); each entry must be a whole number"),
        (["--config.hidden=(1.5,)"], "config.hidden is (1.5,); each entry must be a whole number"),
        (["--config.hidden=(16,0)"], "config.hidden is (16, 0); each entry must be at least 1"),
        (["--config.hidden=(True,)"], "each entry must be a whole number"),
        (["--config.seed=99999999999999999999"], "it must be at most 4294967295"),
        (["--config.split=99999999999"], "config.split is 99999999999; it must be at most"),
        (["--config.zoo.epochs=3000000000"], "it must be at most 2147483647"),
        (
            ["--config.hidden=(1000000,1000000)"],
            "this run needs at least 18,256,621 GB of memory, most of it for the zoo",
        ),
        (["--config.zoo.networks=2000000000"], "most of it for the zoo, and the machine has"),
        (["--config.field.width=100000000"], "most of it for the vector field, and the machine"),
        (["--config.sampling.networks=2000000000"], "most of it for 2000000000 samples"),
        (["--config.training.batch_size=2000000000"], "for batches of 2000000000 networks"),
        (["--config=configs/mnist.py", "--config.averages=()"], "give at least one entry"),
        (["--config=configs/mnist.py", '--config.averages=("a",)'], "must be a whole number"),
        (["--config=configs/steps.py", "--config.solvers=(1,)"], "each entry must be a name"),
        (["--config=configs/path_errors.py", '--config.times=("a",)'], "entry must be a number"),
        (["--config=configs/path_errors.py", "--config.times=(-1,)"], "entry cannot be negative"),
        (["--config=configs/tables.py", "--config.seeds=(0, 4294967296)"], "must be at most 42949"),
        (["--config.devices=9"], "9 devices asked for, but JAX sees 8 (cpu); ask for no more"),
        (["--config=configs/transfer.py:nix"], "the config file has no variant 'nix'"),
        (["--workdri=x"], "workdri"),
        (["extra"], "unexpected argument 'extra'"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(tmp_path, capsys, arguments, message):
    from experiments.command import main
    from experiments.uci import run

    config = [] if arguments[0].startswith("--config=") else ["--config=configs/uci.py:geometric"]
    workdir = tmp_path / "run"
    with pytest.raises(SystemExit) as error:
        main(run, ["uci", *config, f"--workdir={workdir}", *arguments])
    text = str(error.value)
    assert text.startswith("error: ")
    assert message in text
    assert "\n" not in text
    assert not workdir.exists()


@pytest.mark.slow
def test_a_user_with_one_cpu_device_is_told_how_to_have_more(tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    run = ["--config=configs/uci.py", f"--workdir={tmp_path / 'run'}", "--config.devices=8"]
    refused = command(*run)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "error: 8 devices asked for, but JAX sees 1 (cpu); ask for no more, or make more of a CPU "
        "with JAX_NUM_CPU_DEVICES=8"
    )
    assert not (tmp_path / "run").exists()
    # What the sentence says helps: now only the batch is refused.
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    told = command(*run, "--config.training.batch_size=20")
    assert "a batch of 20 does not divide among 8 devices" in told.stderr


@pytest.mark.slow
def test_a_loss_that_turns_non_finite_stops_the_run_and_keeps_what_there_is(tmp_path):
    from experiments.command import main
    from experiments.uci import run

    wild = [*SMALL, "--config.training.learning_rate=1e30"]
    with pytest.raises(SystemExit) as error:
        main(run, ["uci", "--config=configs/uci.py", f"--workdir={tmp_path}", *wild])
    text = str(error.value)
    assert re.match(r"error: the loss or its gradient became non-finite at step \d+; ", text)
    kept = int(re.search(r"the state of step (\d+) is kept", text)[1])
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [str(kept)]
    assert (tmp_path / "zoo" / "zoo.safetensors").exists()
    assert not (tmp_path / "results.json").exists()


def test_config_and_workdir_are_asked_for():
    from experiments.command import UsageError, parse

    with pytest.raises(UsageError, match="give both --config"):
        parse(["uci", "--config=configs/uci.py"])


def test_errors_of_others_keep_their_traceback():
    from experiments.command import main

    def run(config, workdir):
        json.loads("{")

    with pytest.raises(ValueError, match="Expecting"):
        main(run, ["uci", "--config=configs/uci.py", "--workdir=unused"])
