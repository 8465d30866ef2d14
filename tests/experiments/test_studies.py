"""Studies of steps, barriers, transfer and toys as a user runs them, small."""

import re

import pytest

from experiments import records
from experiments.measures import barriers
from experiments.measures.gaussian import DISPLACEMENT, VELOCITY
from experiments.pages import Page, body
from experiments.runner import run_study
from experiments.store import Store
from experiments.study import Row, load
from experiments.workdir import Workdir
from tests.experiments.tiny import check_ways, empty, of_tiny, one, run

pytestmark = pytest.mark.slow


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
