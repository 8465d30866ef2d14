"""Ablations and their page, small."""

import json

import pytest

from configs import ablation as configs
from experiments import ablation, mnist
from experiments.publish.ablation import publish
from tests.experiments.tiny import make_tiny, write_tasks


@pytest.mark.slow
def test_rows_that_only_sample_otherwise_share_a_flow_and_become_a_page(tmp_path, monkeypatch):
    write_tasks(tmp_path, monkeypatch, "mnist")
    monkeypatch.setattr(ablation, "AVERAGED", "4")
    config = configs.get_config("tried")
    make_tiny(config.base)
    config.rows = {
        "base": {},
        "guided": {"sampling": {"guidance": 0.5}},
        "wide": {"field": {"width": 9}},
    }
    config.expected = {"base": "the start", "guided": "better", "wide": "more | of it"}
    run = tmp_path / "tried"
    ablation.run(config, str(run))
    rows = json.loads((run / "results.json").read_text())["rows"]
    cells = {
        row: json.loads((run / row / "seed0" / "results.json").read_text()) for row in config.rows
    }
    for row, found in rows.items():
        assert found["samples"]["accuracy"]["value"] == cells[row]["samples"]["accuracy"]["mean"]
        average = cells[row]["together"]["samples"]["average"]["4"]
        assert found["samples"]["average"]["value"] == average["accuracy"]
        assert found["zoo"] == rows["base"]["zoo"]
    steps = {
        row: (run / row / "seed0" / "metrics.jsonl").read_text().count('"loss"') for row in rows
    }
    assert steps["base"] == steps["wide"] > 0
    assert steps["guided"] == 0  # drawn from the flow of `base`
    assert rows["guided"]["samples"]["loss"] != rows["base"]["samples"]["loss"]
    assert rows["wide"]["run"]["parameters"]["value"] > rows["base"]["run"]["parameters"]["value"]

    page = tmp_path / "page"
    publish(page, [run])
    text = page.with_suffix(".md").read_text()
    for row, expected in config.expected.items():
        assert f"| {row} | {expected.replace('|', '&#124;')} |" in text
    assert page.with_suffix(".png").stat().st_size > 0
    records = json.loads(page.with_suffix(".json").read_text())
    assert {r["row"] for r in records} >= {"base, samples", "base, zoo", "guided, samples"}


@pytest.mark.parametrize("variant", configs.STUDIES)
def test_every_row_of_a_preset_is_a_possible_experiment_with_an_expectation(
    variant, tmp_path, monkeypatch
):
    write_tasks(tmp_path, monkeypatch, "mnist")
    config = configs.get_config(variant)
    assert config.rows.keys() == config.expected.keys()
    for cell in ablation.cells_of(config).values():
        mnist.check(cell)
