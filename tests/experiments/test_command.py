"""The command line: what it refuses in a sentence, what `--help` tells, what memory it counts."""

import json
import re
import subprocess
import sys

import jax
import pytest

from configs.base import small
from experiments import __main__ as program
from experiments import memory
from experiments.study import config_module, load, names

WRONG = [
    ("demo:cubic", "", "demo has no variant 'cubic'; choose one of geometric, euclidean"),
    ("none", "", "there is no study 'none'; choose one of "),
    ("none.py", "", "there is no study 'none.py'; choose one of "),
    ("demo", "zoo.network=3", "unknown config key 'zoo.network'; did you mean zoo.networks?"),
    ("demo", "zoo=3", "unknown config key 'zoo'"),
    ("demo", "seed", "config.seed has no value; write --config.seed=VALUE"),
    ("demo", "zoo.networks=many", "config.zoo.networks is 'many'; it must be a whole number"),
    ("demo", "training.steps=0", "config.training.steps is 0; it must be at least 1"),
    ("demo", "sampling.networks=-2", "config.sampling.networks is -2"),
    ("demo", "seed=-1", "config.seed is -1; it must be at least 0"),
    ("demo", "zoo.prior_std=0.0", "must be positive, got 0.0"),
    ("demo", "zoo.learning_rate=nan", "cannot be negative, infinite or NaN"),
    ("demo", "zoo.held_out=1.5", "holding out 150% of 100 trajectories"),
    ("demo", "zoo.networks=3", "holding out 15% of 3 trajectories"),
    ("demo", "zoo.same_batches=2", "config.zoo.same_batches is '2'; it must be True or False"),
    ("demo", "flow.time_b=0.0", "b of Beta(1, b) must be positive"),
    ("demo", "training.learning_rate=0.0", "the learning rate must be positive"),
    ("demo", "training.ema_decay=1.0", "ema_decay must lie in"),
    ("demo", "zoo.burn_in=50", "burn_in must lie in"),
    ("demo", "flow.kind=cubic", "config.flow.kind is 'cubic'; choose one of euclidean"),
    ("demo", "flow.last_layer=cube", "choose one of sphere"),
    ("demo", "flow.sigma=-1.0", "cannot be negative"),
    ("demo", "task=moon", "unknown task 'moon'"),
    ("demo", "flow.align=procrustes", "choose one of none, weights, activations"),
    ("demo", "flow.coupling=optimal", "choose one of independent, ot, entropic"),
    ("demo", "flow.coupling=equivariant", "misleads a field that tells hidden neurons"),
    ("demo", "flow.coupling=trajectory field.kind=mlp", "misleads a field that tells hidden"),
    ("demo", "field.kind=cnn", "choose one of transformer, full_transformer, pna, mlp"),
    ("demo", "field.own_embedding=some", "choose one of all, fixed, none"),
    ("demo", "field.dtype=float16", "choose one of float32, bfloat16"),
    ("demo", "zoo.optimizer=lion", "choose one of adam, sgd"),
    ("demo", "zoo.rate=linear", "choose one of constant, cosine"),
    ("demo", "training.keep=all", "config.training.keep is 'all'; choose one of last, best"),
    ("demo", "zoo.at_once=0", "config.zoo.at_once is 0; it must be at least 1"),
    ("demo", "training.optimizer=sgd", "choose one of adam, muon"),
    ("demo", "sampling.solver=heun", "choose one of euler, midpoint, rk4"),
    ("demo", "sampling.grid=dense", "choose one of uniform, denser_early"),
    ("demo", "sampling.noise=-0.1", "config.sampling.noise is -0.1; it cannot be negative"),
    ("demo", "sampling.noise_start=1.0", "window with 0 ≤ start < end ≤ 1"),
    ("demo", "sampling.guidance=-1.0", "config.sampling.guidance is -1.0; it cannot"),
    ("demo", "sampling.guidance_at=x_0", "choose one of end_point, x_t"),
    ("demo", "sampling.guidance_rate=cosine", "choose one of constant, falling, hill"),
    ("demo", "devices=3", "does not divide among 3 devices; take batch_size 33"),
    ("demo", "devices=9", "9 devices asked for, but JAX sees 8 (cpu); ask for no more"),
    ("demo", "network=perceptron:3", "there is no network 'perceptron:3'; choose one of mlp"),
    ("demo", "network=mlp:16,a", "cannot be made; mlp takes *widths"),
    ("demo", "network=mlp:1.5", "cannot be made; mlp takes *widths"),
    ("demo", "network=mlp:16,0", "0"),
    ("demo", "network=mlp:16,activation=step", "unknown activation 'step'"),
    ("demo", "network=mlp:16,size=3", "cannot be made; mlp takes *widths"),
    ("demo", "network=lenet5", "takes square images, and an input of the task has the shape (30,)"),
    ("demo", "network=none.py:net", "there is no none.py"),
    ("demo", "network=siren:8 zoo.initial=he task=iris zoo.prior_std=x", "must be a number"),
    ("demo", "zoo.initial=zeros", "choose one of normal, he, lecun, glorot, siren"),
    ("demo", "zoo.initial=siren", "siren_init is for networks that `siren` made"),
    ("demo", "task=digits network=resnet:8,4", "add batch_norm=False, or give networks trained"),
    ("demo", "task=digits network=vit:3", "patches of 3 pixels do not divide images of 8 pixels"),
    ("demo", "seed=99999999999999999999", "it must be at most 4294967295"),
    ("demo", "split=99999999999", "config.split is 99999999999; it must be at most"),
    ("demo", "zoo.epochs=3000000000", "it must be at most 2147483647"),
    (
        "demo",
        "network=mlp:1000000,1000000",
        "this run needs at least 18,256,621 GB of memory, most of it for the zoo",
    ),
    ("demo", "zoo.networks=2000000000", "most of it for the zoo, and the machine has"),
    ("demo", "field.width=100000000", "most of it for the vector field, and the machine"),
    ("demo", "sampling.networks=2000000000", "most of it for 2000000000 samples"),
    ("demo", "training.batch_size=2000000000", "for batches of 2000000000 networks"),
    ("gaussian", "widths=(1000000,1000000)", "GB of memory, most of it for 4296 networks"),
    ("gaussian", "widths=()", "an mlp needs at least input and output widths, got ()"),
    ("mnist", "averages=()", "give at least one entry"),
    ("mnist", 'averages=("a",)', "must be a whole number"),
    ("mnist", "averages=(0,2)", "each entry must be at least 1"),
    ("steps", "steps.solvers=(1,)", "each entry must be a name"),
    ("steps", 'steps.solvers=("heun",)', "config.steps.solvers is 'heun'; choose one of euler"),
    ("steps", "steps.guidance=0", "config.steps.guidance is 0.0; guided sampling needs a scale"),
    ("steps", "flow.kind=euclidean", "row flow euclidean of study steps sets flow.kind itself"),
    ("path_errors", 'times=("a",)', "entry must be a number"),
    ("path_errors", "times=(-1,)", "entry cannot be negative"),
    ("surfaces", "manifold=sphere", "of study surfaces sets manifold itself"),
    ("transfer:nix", "", "transfer has no variant 'nix'; choose one of none"),
]


def refused(capsys, *arguments):
    """The sentence that a command ends with."""
    with pytest.raises(SystemExit) as error:
        program.main(arguments)
    text = str(error.value)
    assert text.startswith("error: ")
    assert "\n" not in text
    assert not capsys.readouterr().out
    return text


@pytest.mark.parametrize(("study", "options", "message"), WRONG)
def test_wrong_settings_are_refused_in_one_sentence(tmp_path, capsys, study, options, message):
    workdir, changes = tmp_path / "run", [f"--config.{option}" for option in options.split()]
    assert message in refused(capsys, "run", study, f"--workdir={workdir}", *changes)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run demo", "give --workdir=DIR, the folder of the run"),
        ("run --workdir=x", "study; --help tells what there is"),
        ("run demo --workdir=x --workdri=y", "--workdri=y"),
        ("run demo --workdir=x extra", "extra"),
        ("run demo --workdir", "expected one argument"),
        ("run demo --workdir=x --only=seed", "--only=seed names no value; write --only=KEY=VALUE"),
        ("run uci --workdir=x --only=task=moon", "has no row at task moon; its rows have task: br"),
        ("walk demo", "choose from"),
        ("--workdir=x", "verb"),
        ("page none", "there is no study 'none'"),
        ("page demo --workdir=nowhere", "no records at nowhere/records.json; run the study first"),
    ],
)
def test_wrong_commands_are_refused_in_one_sentence(arguments, message, capsys):
    assert message in refused(capsys, *arguments.split())


@pytest.mark.slow
def test_a_user_with_one_cpu_device_is_told_how_to_have_more(tmp_path, monkeypatch):
    def command(*more):
        run = ["run", "demo", f"--workdir={tmp_path / 'run'}", "--config.devices=8", *more]
        found = subprocess.run(
            [sys.executable, "-m", "experiments", *run], capture_output=True, text=True
        )
        assert found.returncode == 1
        assert not (tmp_path / "run").exists()
        return found.stderr

    monkeypatch.delenv("XLA_FLAGS")
    assert command().splitlines()[-1] == (
        "error: 8 devices asked for, but JAX sees 1 (cpu); ask for no more, or make more of a CPU "
        "with JAX_NUM_CPU_DEVICES=8"
    )
    # What the sentence says helps: now only the batch is refused.
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    told = command("--config.training.batch_size=20")
    assert "a batch of 20 does not divide among 8 devices" in told


def test_errors_of_others_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(program, "load", lambda name: json.loads("{"))
    with pytest.raises(ValueError, match="Expecting"):
        program.main(["run", "demo", "--workdir=unused"])


@pytest.mark.parametrize("name", names())
def test_help_tells_what_can_be_set(name, capsys):
    program.main(["run", name, "--help"])
    text, about = capsys.readouterr().out, config_module(name).__doc__ or ""
    assert "--workdir=DIR" in text
    assert about.strip() in text
    assert f"python -m experiments run {name}" in about
    assert f" --workdir=runs/{name.replace('_', '-')}" in about.replace("_", "-")
    keys = re.findall(r"^  --config\.[\w.]+=\S+", text, re.MULTILINE)
    assert len(keys) > 1


def test_help_shows_the_config_that_is_asked_for(capsys):
    program.main(["run", "demo:euclidean", "-h"])
    text = capsys.readouterr().out
    assert re.search(r"--config\.zoo\.held_out=0\.15 +share of trajectories that the flow", text)
    assert re.search(r"--config\.flow\.kind=euclidean$", text, re.MULTILINE)
    assert "--config.network=mlp:16,16" in text
    with pytest.raises(SystemExit, match="error: there is no study 'none'"):
        program.main(["run", "none", "--help"])


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_without_a_study_tells_how_to_call(arguments, capsys):
    program.main(arguments)
    text = capsys.readouterr().out
    assert "python -m experiments run STUDY[:VARIANT] --workdir=DIR" in text
    assert "--only=KEY=VALUE" in text


def test_studies_are_listed_with_their_variants(capsys):
    program.main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    (demo,) = (line for line in lines if line.startswith("demo"))
    assert "New networks for a small data set" in demo
    assert demo.endswith("Variants: geometric, euclidean, normalized, settings.")


def test_a_page_is_written_from_the_records_of_a_run_or_again_from_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "RESULTS", tmp_path / "docs")
    file = program.RESULTS.parent / "run" / "records.json"
    file.parent.mkdir()
    file.write_text(
        '{"sources": [{"command": "c", "hardware": "h", "date": "d", "versions": {}}], "records":'
        '[{"at": {"manifold": "torus", "seed": 7, "points": "samples"}, "metric":'
        '"total_variation", "value": 0.25, "source": 0}]}'
    )
    program.main(["page", "surfaces", f"--workdir={file.parent}"])
    first = (tmp_path / "docs" / "surfaces.md").read_text()
    assert "| torus | 0.250 |" in first
    program.main(["page", "surfaces"])
    assert (tmp_path / "docs" / "surfaces.md").read_text() == first


def test_memory_is_counted_from_below():
    needed = memory.least(small(), n_weights=10, snapshots=3)
    assert needed["the zoo"] == 4 * 10 * 100 * (2 * 3 + 1)
    assert needed["100 samples"] == 4 * 10 * 100
    assert memory.machine() > 1e8


def test_an_override_has_the_type_of_what_it_replaces():
    study = load("demo").overridden(["flow.sigma=1", "zoo.same_batches=true", "split=3"])
    assert isinstance(study.base.flow.sigma, float)
    assert study.base.zoo.same_batches is True
    assert study.base.split == 3


@pytest.mark.parametrize("most", [0, 10**9])
def test_programs_are_kept_until_they_hold_too_many_maps(most, monkeypatch):
    program = jax.jit(lambda x: x + 1)
    program(1.0)
    monkeypatch.setattr(memory, "MOST_MAPS", most)
    memory.forget_programs()
    assert program._cache_size() == (1 if most or not memory.MAPS.exists() else 0)
