"""Studies as a user runs them, small: from the command to the page, with one store for all."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from experiments import __main__ as program
from experiments import records, report
from experiments.build import load_once
from experiments.measures import barriers, novelty, quality
from experiments.measures.gaussian import DISPLACEMENT, VELOCITY
from experiments.pages import Page, body
from experiments.runner import check, run_study
from experiments.store import Store
from experiments.study import Row, load
from experiments.workdir import Workdir
from tests.experiments.tiny import QUICK, SMALL, check_ways, of_tiny, write_tasks
from wfm.weights import load_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Tiny images in place of MNIST and Fashion-MNIST."""
    with pytest.MonkeyPatch.context() as patch:
        write_tasks(tmp_path_factory.mktemp("data"), patch, "mnist", "fashion_mnist")
        yield
    load_once.cache_clear()


def run(study, workdir, store):
    """The records of a study, and its page; all of its figures are numbers."""
    kept = Store(store)
    check(study.cells(), kept)
    found = run_study(study, Workdir(workdir, study), kept)
    assert all(np.isfinite([x.value, x.std or 0, x.error or 0]).all() for x in found)
    page = Page(study, found, workdir / "page" / study.name, workdir / "cells")
    page.target.parent.mkdir()
    for block in study.page:
        block.draw(page)
    text = body(page)
    for name in re.findall(r"\]\((.*\.png)\)", text):
        assert (page.target.parent / name).stat().st_size > 0, name
    return found, text


def empty(text):
    """Cells of the tables of a page that say nothing, by row and column."""
    found, heads = [], []
    for before, line in zip(["", *text.splitlines()], text.splitlines(), strict=False):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|---"):
            heads = [cell.strip() for cell in before.strip("|").split("|")]
        elif line.startswith("|") and heads:
            found += [(cells[0], h) for h, cell in zip(heads, cells, strict=True) if not cell]
        elif not line.startswith("|"):
            heads = []
    return found


def times(store, *stages):
    """When entries of the store were made."""
    return {p: p.stat().st_mtime_ns for s in stages for p in store.glob(f"{s}/*/entry.json")}


def one(found, metric, **at):
    (record,) = records.where(found, {"metric": metric, **at})
    return record


def command(*arguments):
    """A command in a process of its own."""
    run = [sys.executable, "-m", "experiments", *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


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
    return json.loads(entry.read_text())["reads"]["task"] == "mnist"


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


@pytest.mark.parametrize("times", [(), (0.5, 1.0)])
def test_times_from_which_nothing_is_left_are_refused(times, store, images):
    study = of_tiny("path_errors", times=times, averages=(1, 2))
    with pytest.raises(Exception, match="choose times from 0 to below 1"):
        check(study.cells(), Store(store))


@pytest.mark.parametrize("numbers", [(1, 64), (0, 2)])
def test_more_networks_than_there_are_cannot_be_averaged(numbers, store, images):
    study = of_tiny("mnist", rows=ON_MNIST[:1], averages=numbers)
    with pytest.raises(
        Exception, match=r"averages asks for \d to \d+ networks, of 5 samples and 6"
    ):
        check(study.cells(), Store(store))


IRIS = {"task": "iris", "split": 0}


def test_every_way_is_measured_after_every_number_of_steps(tmp_path, store):
    steps = {"numbers": (8, 64), "solvers": ("euler", "midpoint"), "guidance": 10.0}
    study = of_tiny("steps", rows=(Row({"flow": "geometric"}),), steps=steps, **IRIS)
    found, text = run(study, tmp_path, store)
    losses = records.where(found, {"metric": "loss", "steps": records.known})
    assert len({(x.at["way"], x.at["steps"]) for x in losses}) == len(losses) == 2 * (2 * 2 + 4)
    assert all(x.error >= 0 for x in losses)
    loss = lambda way: one(found, "loss", way=way, steps=8).value  # noqa: E731
    assert loss("euler") != loss("euler guided") != loss("midpoint guided")
    assert one(found, "accuracy", way="zoo").value > 0
    assert re.search(rf"\| midpoint guided \| {loss('midpoint guided'):.4f} \| ", text)
    novelty = one(found, "novelty", way="euler", steps=64).value
    assert f" {novelty:.4f} |" in text.split("| novelty |")[1]
    assert not empty(text)


def test_barriers_and_a_table_of_flows_become_a_page(tmp_path, store):
    at = {"task": "wine"}
    rows = (
        Row({**at, "flow": "Geometric", "weights": "aligned"}, {"task": "wine"}),
        Row({**at, "flow": "Geometric", "weights": "as trained"}, {"task": "wine"} | NONE),
        Row(
            {**at, "networks": 250},
            {"task": "wine", "zoo": {"networks": 4}},
            seeds=(0,),
            measures=("barriers", "barrier_maps"),
        ),
    )
    study = of_tiny("uci", rows=rows, seeds=(0, 1), **{"zoo": {"held_out": 0.25}})
    found, text = run(study, tmp_path, store)
    here = {"metric": "loss", "set": "samples", "weights": "aligned"}
    losses = [x.value for x in records.where(found, here)]
    assert len(losses) == 2 and losses[0] != losses[1]
    mean, spread = sum(losses) / 2, abs(losses[0] - losses[1]) / 2**0.5  # the divisor is n - 1
    assert f" | {mean:.4f} ± {spread:.4f} |" in text
    zoos = [x.value for x in records.where(found, here | {"set": "zoo"})]
    assert zoos == [
        x.value for x in records.where(found, here | {"set": "zoo", "weights": "as trained"})
    ]  # shared, so that rows differ in their flow alone
    ways = {x.at["aligned"] for x in records.where(found, {"aligned": records.known})}
    assert ways >= {"none", *barriers.SHOWN, "weights, each pair"}
    assert {x.metric for x in records.where(found, {"aligned": "none"})} == {
        "line",
        "line, max",
        "line, train",
        "geodesic",
    }
    assert "(uci-wine.png)" in text
    assert "## Wine" in text and "## Digits" not in text
    for row, column in empty(text):
        # Pairs are not moved by one permutation each, and so have but one figure.
        assert "each pair" in row or column == "published", (row, column)


NONE = {"flow": {"align": "none"}}


def test_barriers_alone(tmp_path, store):
    study = of_tiny("barriers", task="wine", zoo={"networks": 4})  # which are there already
    found, text = run(study, tmp_path, store)
    assert one(found, "line", aligned="none").value >= 0
    assert all("each pair" in row for row, _ in empty(text))


TRANSFER = {"task": "fashion_mnist", "widths": (5,), "gradients": (2, 4)}
TRANSFER |= {"scales": (0.5,), "rates": (0.01,)}


def test_every_way_to_another_task_is_measured_at_equal_gradients(tmp_path, store, images):
    rows = (Row({"task": "mnist", "to": "fashion_mnist"}),)
    study = of_tiny("transfer", "full_transformer", rows=rows, seeds=(0,), transfer=TRANSFER)
    found, text = run(study, tmp_path, store)
    points = records.where(found, {"metric": "accuracy", "part": records.known})
    at = check_ways(points)
    assert len(at) == len(points)
    assert ("width", "from samples", 5, 0) in at
    zoo = ("width", "trained as the zoo", 5)
    assert [g for *place, g in at if tuple(place) == zoo] != []
    assert {x.metric for x in found} > {"accuracy", "loss", "average"}
    plain = one(found, "accuracy", part="width", way="from samples", width=5, gradients=0)
    assert f"| from samples | {plain.value:.4f} ±" in text
    assert not records.where(found, {"metric": "novelty"})  # other tasks and widths are new anyway


def test_the_gaussian_toy_shows_the_loss_of_variance_of_ideal_predictions(tmp_path, store):
    options = ["widths=(6, 5, 2)", "training.data=64", "training.steps=4"]
    options += ["training.report_every=2", "field.width=8", "field.depth=1"]
    found, text = run(load("gaussian").overridden(options), tmp_path, store)
    std = lambda way: one(found, "std", field="ideal", sampling=way).value  # noqa: E731
    error = 4 / (2 * 200 * 47) ** 0.5  # of a standard deviation of 200 networks of 47 weights
    for way, expected in {
        f"{VELOCITY}, ε = 0.0": 0.987,
        f"{DISPLACEMENT}, ε = 0.0": 0.487,
        f"{DISPLACEMENT}, ε = 0.05": 1.0,
        f"{VELOCITY} and score noise": 0.99,
    }.items():
        assert abs(std(way) - expected) < error + 0.01
    assert std(f"{VELOCITY}, ε = 0.05") > 1.1
    score = {"field": "ideal", "sampling": f"{VELOCITY} and score noise"}
    mean = one(found, "mean", **score).value
    assert f"| {mean:.3f} | {std(score['sampling']):.3f} |" in text
    assert not empty(text)


@pytest.mark.parametrize("manifold", ["torus", "hyperboloid"])
def test_surfaces_are_measured_and_drawn(manifold, tmp_path, store):
    options = ["width=8", "depth=1", "data.points=500", "sampling.points=400", "sampling.steps=2"]
    options += ["training.steps=4", "training.report_every=2", "training.batch_size=16"]
    study = load("surfaces").overridden(options)
    kept = Store(store)
    found = run_study(study, Workdir(tmp_path, study), kept, {"manifold": manifold})
    for points in ("samples", "uniform"):
        assert 0 < one(found, "total_variation", points=points).value < 1
    drawn = {p.name for p in (tmp_path / "cells").rglob("*.png")}
    assert drawn == {"density.png"} | ({"disk.png"} if manifold == "hyperboloid" else set())
    assert not empty(body(Page(study, found, tmp_path / "surfaces")))
