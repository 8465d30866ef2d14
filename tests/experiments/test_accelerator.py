"""The command for accelerators, small, on a CPU: so that a first minute there is no surprise."""

import time

import numpy as np
import pytest

from experiments import __main__ as program
from experiments import budget, records
from experiments.measures import laws
from experiments.study import load
from tests.experiments.tiny import empty

SMALL = "accelerator:small"


@pytest.mark.slow
def test_the_command_measures_laws_rates_and_presets(tmp_path, capsys):
    pytest.importorskip("torch")
    program.main(["run", SMALL, f"--workdir={tmp_path}", "--config.minutes=30"])
    shown = capsys.readouterr().out
    assert "0 break (bold)" in shown
    found = records.read(tmp_path / "records.json")
    errors = records.where(found, {"metric": "error"})
    assert len(errors) == len(laws.LAWS) * len(laws.PRECISIONS)
    cases = {x.at["case"] for x in records.where(found, {"metric": "seconds median"})}
    assert cases == set(load(SMALL).base.cases) - {"device"}
    assert not records.where(found, {"metric": "failed"})
    (rate,) = records.where(found, {"metric": "rate bfloat16"})
    assert rate.value > 1e8
    preset = {x.metric: x.value for x in records.where(found, {"part": "preset"})}
    assert preset["steps"] == load(SMALL).rows[2].change["training"]["steps"]
    assert preset["hours"] == pytest.approx(preset["steps"] * preset["step_seconds"] / 3600)
    assert np.isfinite([preset["accuracy"], preset["loss"], preset["zoo_accuracy"]]).all()
    assert not [cell for cell in empty(shown) if cell[1] == "seconds"]


def test_measures_end_with_the_minutes_and_go_on_with_more(tmp_path, monkeypatch):
    """Nothing is begun after the time is up, and what was left out is done by the next call."""
    few = dict(list(laws.LAWS.items())[-2:])
    monkeypatch.setattr(laws, "LAWS", few)
    run = ["run", SMALL, f"--workdir={tmp_path}", "--only=part=laws"]
    monkeypatch.setattr(budget, "_START", time.monotonic() - 1e4)
    with pytest.raises(SystemExit, match="no time is left"):
        program.main(run)
    monkeypatch.setattr(budget, "_START", time.monotonic())
    program.main(run)
    errors = records.where(records.read(tmp_path / "records.json"), {"metric": "error"})
    assert {x.at["law"] for x in errors} == set(few)
    assert all(x.value <= laws.PRECISIONS[x.at["precision"]].largest for x in errors)


def test_a_law_that_breaks_or_is_no_number_is_bold():
    page = load(SMALL).page[1]
    cell = page.columns([records.Record({"precision": "TF32"}, "error", 0.0)])[0].cell
    at = {"law": "x", "precision": "TF32"}
    for error, bold in ((1e-6, False), (1e-2, True), (float("nan"), True)):
        found = [records.Record(at, "error", error), records.Record(at, "largest", 1e-5)]
        assert cell(found).startswith("**") is bold
