"""Published pages: every figure of a run, and how other runs differ."""

import json

from experiments.publish.demo import publish
from experiments.report import ROWS


def finished_run(folder, accuracy, **config):
    """A folder as a run leaves it."""
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "overview.png").write_bytes(b"picture")
    spread = {m: {"mean": accuracy, "std": 0.01} for m in ("accuracy", "loss")}
    results = dict.fromkeys(ROWS, spread) | {
        "novelty": {
            "ratio": 0.5,
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
    assert "| samples of the flow | 0.750 ± 0.010 | 0.750 ± 0.010 | 0.500 | 0.000 |" in page
    assert "| (nothing) | 0.7500 ± 0.010 |" in page
    assert "| flow.b 2.0 | 0.2500 ± 0.010 |" in page
    assert (tmp_path / "docs" / "page.png").read_bytes() == b"picture"
    records = json.loads((tmp_path / "docs" / "page.json").read_text())
    mine = [r for r in records if r["row"] == "samples" and r["metric"] == "accuracy"]
    assert [(r["value"], r["seeds"]) for r in mine] == [(0.75, [7]), (0.25, [7])]
    assert mine[0]["command"] == "make demo"
    assert mine[1]["command"].endswith(" --config.flow.b=2.0")
    assert all(r["published"] is None and r["hardware"] == "a machine" for r in records)
