"""Published pages: every figure of a run, and how other runs differ."""

import itertools
import json

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import report
from experiments.cells import over_seeds
from experiments.judge import quality
from experiments.publish import steps
from experiments.publish.demo import publish
from experiments.publish.labels import label
from experiments.report import ROWS
from wfm.tasks import load_task
from wfm.weights import mlp


def finished_run(folder, accuracy, **config):
    """A folder as a run leaves it."""
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "overview.png").write_bytes(b"picture")
    spread = {m: {"mean": accuracy, "std": 0.01} for m in ("accuracy", "loss")}
    results = dict.fromkeys(ROWS, spread) | {
        "novelty": {
            "ratio": 0.5,
            "ratio_error": 0.02,
            "distance": {"samples": 1.0, "held_out": 2.0},
            "disagreement": {"samples": 0.0, "held_out": 0.0},
        },
        "seed": 7,
        "seconds": {"total": 3.0},
        "peak_rss_mb": 10,
        "hardware": "a machine",
        "versions": {"jax": "1"},
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.json").write_text(json.dumps({"seed": 7, "flow": {"b": 1.0}} | config))
    return folder


def test_a_page_and_its_records(tmp_path):
    run = finished_run(tmp_path / "run", 0.75)
    other = finished_run(tmp_path / "other", 0.25, flow={"b": 2.0})
    publish(tmp_path / "docs" / "page", [run, other])
    page = (tmp_path / "docs" / "page.md").read_text()
    assert "`make demo`. Seed 7; a machine; seconds" in page
    assert "| samples of the flow | 0.750 ± 0.010 | 0.750 ± 0.010 | 0.500 ± 0.020 | 0.000 |" in page
    assert "| (nothing) | 0.7500 ± 0.010 |" in page
    assert "| flow.b 2.0 | 0.2500 ± 0.010 |" in page
    assert (tmp_path / "docs" / "page.png").read_bytes() == b"picture"
    records = json.loads((tmp_path / "docs" / "page.json").read_text())
    mine = [r for r in records if r["row"] == "samples" and r["metric"] == "accuracy"]
    assert [(r["value"], r["seeds"]) for r in mine] == [(0.75, [7]), (0.25, [7])]
    assert mine[0]["command"] == "make demo"
    assert mine[1]["command"].endswith(" --config.flow.b=2.0")
    assert all(r["published"] is None and r["hardware"] == "a machine" for r in records)


def test_spread_over_seeds_is_that_of_a_sample():
    values = (0.1, 0.2, 0.6)
    table = over_seeds([{"loss": {"value": v}} for v in values])
    assert table["loss"]["value"] == pytest.approx(0.3)
    assert table["loss"]["seed_std"] == pytest.approx(0.07**0.5)  # (0.04 + 0.01 + 0.09) / 2
    assert over_seeds([{"loss": {"value": 0.5}}])["loss"]["seed_std"] is None


def test_quality_has_figures_to_choose_by_and_figures_to_report():
    network, task = mlp(4, 3, 3), load_task("iris")
    sizes = {name: network.shape(name) for name in network.arrays}
    weights = {name: jnp.zeros((2, *shape)) for name, shape in sizes.items()}
    weights["dense2.bias"] = jnp.array([[1.0, 0, 0], [0, 0, 1.0]])  # always 0, always 2
    found = quality(network, task, weights)
    for split, name in ((task.test, ""), (task.validation, "validation_")):
        shares = [np.mean(np.asarray(split.y) == k) for k in (0, 2)]
        assert found[f"{name}accuracy"] == pytest.approx(np.mean(shares))
        error = np.std(shares, ddof=1) / 2**0.5
        assert found[f"{name}accuracy_error"] == pytest.approx(error, abs=1e-6)
        assert found[f"{name}average"] == pytest.approx(shares[0])  # the first of equal outputs


def test_no_name_lies_upon_another():
    rng = np.random.default_rng(0)
    dots = [(f"name {i}", *rng.normal(0.5, 0.05, 2)) for i in range(30)]
    figure, axes = plt.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label(axes, [*dots, ("outside", 2.0, 0.5), dots[0]], fontsize=6)
    figure.draw_without_rendering()
    texts = [t for t in axes.texts if t.get_visible()]
    assert sorted(t.get_text() for t in texts) == sorted(name for name, *_ in dots)
    # The text alone: the extent of an annotation has its line as well.
    boxes = [super(type(t), t).get_window_extent() for t in texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    plt.close(figure)


def test_the_legend_names_what_is_drawn(monkeypatch, tmp_path):
    point = {"steps": 4, "loss": 0.5, "loss_error": 0.1}
    ways = [["euler"], ["euler", "adam from prior"]]
    for name, mine in zip("ab", ways, strict=True):
        (tmp_path / name).mkdir()
        results = {"zoo": {"loss": 0.4}, "points": [point | {"way": way} for way in mine]}
        (tmp_path / name / "results.json").write_text(json.dumps(results))
        (tmp_path / name / "config.json").write_text('{"base": {"flow": {"kind": "geometric"}}}')
    monkeypatch.setattr(steps.plt, "close", lambda _: None)
    steps.draw([tmp_path / "a", tmp_path / "b"], tmp_path / "steps.png")
    (legend,) = plt.gcf().legends
    assert {t.get_text() for t in legend.get_texts()} == {"zoo", "euler", "adam from prior"}
    monkeypatch.undo()
    plt.close("all")


def test_the_page_of_a_run_fits_a_phone():
    assert '<meta name="viewport" content="width=device-width' in report.PAGE
    assert "max-width: 100%" in report.PAGE and "overflow-x: auto" in report.PAGE


def test_held_out_networks_are_drawn_above_the_zoo():
    sets = {
        name: report.Networks(np.zeros(3), np.zeros(3), np.eye(3))
        for name in ("samples", "target", "held_out")
    }
    figure, axes = plt.subplots()
    report._map(axes, sets)
    order = {c.get_label(): c.get_zorder() for c in axes.collections}
    assert order["zoo"] < order["held-out zoo"] < order["samples"]
    plt.close(figure)
