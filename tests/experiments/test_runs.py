"""Studies as a user runs them, small: from the command to the page, with one store for all."""

import re
import subprocess
import sys

import numpy as np
import pytest

from experiments import __main__ as program
from experiments import records, report
from experiments.measures import novelty, quality
from experiments.pages import Page, body
from experiments.runner import check
from experiments.store import Store, about
from experiments.study import Row, load
from experiments.workdir import Workdir
from tests.experiments.tiny import QUICK, SMALL, empty, of_tiny, one, run, times
from wfm.weights import load_weights


def command(*arguments):
    """A command in a process of its own."""
    run = [sys.executable, "-m", "experiments", *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


def test_from_the_command_to_the_report(tmp_path, capsys):
    program.main(["run", "demo", f"--workdir={tmp_path}", *QUICK])
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == f"Report: {tmp_path / 'report.html'}"
    assert "data:image/png;base64," in (tmp_path / "report.html").read_text()
    found = records.read(tmp_path / "records.json")
    assert 0 <= one(found, "accuracy", set="samples").value <= 1
    assert one(found, "novelty", set="samples").value > 0
    assert re.search(r"samples of the flow +0\.\d+ ± ", shown)


@pytest.mark.slow
def test_a_run_writes_all_it_promises_and_repeats_its_figures(tmp_path):
    def demo(folder, *more):
        return command("run", "demo", f"--workdir={tmp_path / folder}", *SMALL, *more)

    first = demo("a")
    assert first.returncode == 0, first.stderr
    folder, kept = tmp_path / "a", tmp_path / "a" / "store"
    for name in ("config.json", "records.json", "report.html", "cells/seed=0/samples.safetensors"):
        assert (folder / name).stat().st_size > 0
    for name in ("zoo/*/zoo.safetensors", "train/*/metrics.jsonl", "train/*/parameters.*"):
        assert len(list(kept.glob(name))) == 1
    assert not list(kept.rglob("checkpoints")) and not list(kept.rglob("groups"))  # grown large
    assert (folder / "report.html").read_text().count("data:image/png;base64,") == 2
    assert "samples of the flow" in first.stdout
    assert first.stdout.splitlines()[-1] == f"Report: {folder / 'report.html'}"

    found = records.read(folder / "records.json")
    for name in quality.SETS:
        assert 0 <= one(found, "accuracy", set=name).value <= 1
        assert one(found, "loss", set=name).std >= 0
        assert 0 <= one(found, "validation_accuracy", set=name).value <= 1
    for name in novelty.SETS:
        assert one(found, "novelty", set=name).value > 0
        assert 0 <= one(found, "disagreement", set=name).value <= 1
    assert one(found, "novelty", set="samples").error >= 0
    assert one(found, "novelty", set="held out").value == pytest.approx(1)
    stages = {x.at["stage"] for x in records.where(found, {"metric": "seconds"})}
    assert stages == {"zoo", "align", "train", "sample", "measure"}
    assert all(x.value > 0 for x in records.where(found, {"metric": ("seconds", "peak_mb")}))
    assert all(x.source.versions["jax"] for x in found)
    unknown = [("zoo, all snapshots", "novelty"), ("zoo, all snapshots", "disagrees")]
    assert set(unknown) < set(empty(tables(first.stdout, folder)))

    # The same command again: nothing is made twice, and the same is printed.
    made = times(kept, "*")
    again = demo("a")
    assert again.stdout == first.stdout
    assert times(kept, "*") == made
    # Elsewhere with the same store: nothing is made again; with one of its own, the same figures.
    elsewhere = demo("b", f"--store={kept}")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert times(kept, "*") == made
    alone = demo("c")
    assert alone.returncode == 0, alone.stderr
    figures = [(x.at, x.metric, x.value, x.std, x.error) for x in found if x.metric not in COST]
    for other in ("b", "c"):
        repeated = records.read(tmp_path / other / "records.json")
        assert figures == [
            (x.at, x.metric, x.value, x.std, x.error) for x in repeated if x.metric not in COST
        ]
    # With another config the folder is refused and stays as it was.
    before = (tmp_path / "c" / "records.json").read_bytes()
    refused = demo("c", "--config.seed=3")
    assert refused.returncode == 1
    assert "another config (different: seed); choose another --workdir" in refused.stderr
    assert (tmp_path / "c" / "records.json").read_bytes() == before


COST = ("seconds", "peak_mb")


def tables(stdout, folder):
    """The page of a run of the demo, as it would be published."""
    study = load("demo").overridden([o.removeprefix("--config.") for o in SMALL])
    return body(Page(study, records.read(folder / "records.json"), folder / "demo"))


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
        "--config.training.keep=best",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", VARIANTS)
def test_other_flows_of_the_demo_run(tmp_path, store, kind, capsys):
    run = ["run", f"demo:{kind}", f"--workdir={tmp_path}", f"--store={store}"]
    program.main([*run, *SMALL, *VARIANTS[kind]])
    assert "samples of the flow" in capsys.readouterr().out
    found = records.read(tmp_path / "records.json")
    assert np.isfinite(one(found, "loss", set="samples").value)
    if kind == "euclidean":
        (cell,) = (tmp_path / "cells").iterdir()
        samples, _ = load_weights(cell / "samples.safetensors")
        parts = [load_weights(p)[0] for p in sorted((cell / "trajectories").iterdir())]
        assert [len(part["dense1.kernel"]) for part in parts] == [3, 2]
        ends = np.concatenate([part["dense1.kernel"] for part in parts])[:, -1]
        np.testing.assert_allclose(ends, samples["dense1.kernel"], atol=1e-5)


@pytest.mark.slow
def test_a_loss_that_turns_non_finite_stops_the_run_and_keeps_what_there_is(tmp_path, store):
    wild = [*QUICK, "--config.training.learning_rate=1e30"]
    with pytest.raises(SystemExit) as error:
        program.main(["run", "demo", f"--workdir={tmp_path}", f"--store={store}", *wild])
    text = str(error.value)
    assert re.match(r"error: the loss or its gradient became non-finite at step \d+; ", text)
    kept = int(re.search(r"the state of step (\d+) is kept", text)[1])  # type: ignore
    (begun,) = store.glob("train/*.begun")
    assert [p.name for p in (begun / "checkpoints").iterdir()] == [str(kept)]
    assert list(store.glob("zoo/*/zoo.safetensors"))
    assert not (tmp_path / "records.json").exists()


MANY = {"zoo": {"networks": 40, "held_out": 0.2}, "sampling": {"networks": 32}}
MANY["zoo"] |= {"epochs": 2, "burn_in": 1, "stride": 1}
AVERAGES = (1, 2, 32)
GUIDED = {"sampling": {"guidance": 0.5, "guidance_rate": "falling"}}
WIDE = {"field": {"width": 9}}


def tried(study, change, changes=(), /, **more):
    return Row({"study": study, "change": change, **more}, dict(changes), "as | expected")


ON_MNIST = (
    tried("headline", "6,000 steps"),
    tried("headline", "6,000 steps", GUIDED, guidance="guided longer", networks=32),
    Row({"study": "flows", "flow": "Geometric", "coupling": "independent"}),
    Row({"study": "flows", "flow": "Geometric", "coupling": "ot"}, WIDE),
    tried("widths", "8 features", size=8),
    tried("widths", "16 features", WIDE, size=16),
)


@pytest.mark.slow
def test_new_mnist_networks_beside_published_ones(tmp_path, store, images):
    study = of_tiny("mnist", rows=ON_MNIST, averages=AVERAGES, **MANY)
    found, text = run(study, tmp_path, store)
    at = {"study": "headline", "guidance": None, "seed": 0}
    for name in ("samples", "trained"):
        single, mean = (
            {m: one(found, m, **at, set=name, averaged=n).value for m in ("nll", "brier", "ece")}
            for n in (1, 32)
        )
        # Probabilities are averaged, and both scores are convex in them.
        assert mean["brier"] <= single["brier"] + 1e-6  # rounding
        assert mean["nll"] <= single["nll"] + 1e-6
        assert 0 <= mean["ece"] <= 1
        divergence = one(found, "divergence", **at, set=name, averaged=None).value
        assert 0 <= divergence <= np.log(2)
        average = one(found, "average", **at, set=name, averaged=None)
        assert average.value == one(found, "accuracy", **at, set=name, averaged=32).value

    # Rows that only sample otherwise share a flow; all share a zoo.
    assert len(times(store, "train")) >= 2
    flows = {p.parent.name for p in store.glob("train/*/entry.json") if of_images(p)}
    assert len(flows) == 2
    assert len([p for p in store.glob("zoo/*/entry.json") if of_images(p)]) == 1
    guided = one(found, "loss", **at | {"guidance": "guided longer"}, set="samples", averaged=None)
    assert guided.value != one(found, "loss", **at, set="samples", averaged=None).value
    few, more = (one(found, "parameters", study="widths", size=n).value for n in (8, 16))
    assert few < more

    # What the page says.
    sample = {"flow": "Geometric", "coupling": "independent", "set": "samples", "averaged": None}
    accuracy, loss = (one(found, m, study="flows", **sample) for m in ("accuracy", "loss"))
    ours = f"{accuracy.value:.3f} ± {accuracy.std:.3f} / {loss.value:.3f}"
    assert f"| Geometric | *0.737 ± 0.070 / 1.457* | {ours} |" in text
    assert "| Geometric + OT | *0.786 ± 0.064 / 1.443* | 0." in text
    assert "| trained networks | *0.933 ± 0.009 / 0.231* | 0." in text
    guided = one(
        found, "accuracy", **at | {"guidance": "guided longer"}, set="samples", averaged=32
    )
    assert f"| samples, guided longer, average of 32 | {guided.value:.4f} | " in text
    assert "| trained, alone | 0." in text
    assert "| baseline: neurons of two | " in text
    for name in ("drawn-filters", "guided-averages", "growth"):
        assert f"(mnist-{name}.png)" in text
    columns_of_others = {"lossy", "guided", "unfolded"}
    for row, column in empty(text):
        assert column in columns_of_others | {"expected"} or row == column, (row, column)


def of_images(entry):
    return about(entry.parent)["reads"]["task"] == "mnist"


@pytest.mark.slow
def test_what_was_tried_becomes_a_page(tmp_path, store, images, monkeypatch):
    rows = [tried("tried", "base"), tried("tried", "guided", GUIDED), tried("rates", "slow", WIDE)]
    study = of_tiny("mnist_ablation", rows=tuple(rows), averages=AVERAGES, **MANY)
    made = times(store, "zoo", "train", "sample", "quality", "together")
    found, text = run(study, tmp_path, store)
    sets = {
        "set": "samples",
        "averaged": None,
        "study": "tried",
        "change": "base",
        "guidance": None,
    }
    accuracy, spread = one(found, "accuracy", **sets).value, one(found, "accuracy", **sets).std
    expected = "where all rows start"
    assert re.search(rf"\| base \| {expected} \| .*\| {accuracy:.4f} ± {spread:.3f} \|", text), text
    assert "Best by validation accuracy (0." in text
    assert "Best by validation accuracy" in report.tables(study, found, Workdir(tmp_path, study))
    assert not empty(text)
    # All of it but what the order of tests brings is there from the page before.
    if made:
        assert times(store, "zoo", "train", "sample", "quality", "together") == made


@pytest.mark.slow
def test_networks_are_led_on_from_every_time(tmp_path, store, images):
    rows = (Row({"flow": "geometric"}),)
    study = of_tiny("path_errors", rows=rows, times=(0.0, 0.5), **MANY)
    found, text = run(study, tmp_path, store)
    places = {(x.at["set"], x.at["t"]) for x in records.where(found, {"set": records.known})}
    assert places == {(s, t) for s in ("seen", "unseen") for t in (0.0, 0.5, "as trained")}
    for name in ("seen", "unseen"):
        assert all(one(found, "flow_loss", set=name, t=t).value > 0 for t in (0.0, 0.5))
        assert not records.where(found, {"metric": "flow_loss", "set": name, "t": "as trained"})
    seen, unseen = (one(found, "accuracy", set=s, t=0.5).value for s in ("seen", "unseen"))
    assert f"| 0.5 | {seen:.4f} / {unseen:.4f} | " in text
    assert one(found, "novelty", set="seen", t="as trained").value == pytest.approx(0, abs=1e-3)
    assert empty(text) == [("as trained", "flow_loss")]


@pytest.mark.slow
@pytest.mark.parametrize("times", [(), (0.5, 1.0)])
def test_times_from_which_nothing_is_left_are_refused(times, store, images):
    study = of_tiny("path_errors", times=times, averages=(1, 2))
    with pytest.raises(Exception, match="choose times from 0 to below 1"):
        check(study.cells(), Store(store))


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(1, 64), (0, 2)])
def test_more_networks_than_there_are_cannot_be_averaged(numbers, store, images):
    study = of_tiny("mnist", rows=ON_MNIST[:1], averages=numbers)
    with pytest.raises(
        Exception, match=r"averages asks for \d to \d+ networks, of 5 samples and 6"
    ):
        check(study.cells(), Store(store))
