"""The command for accelerators, small, on a CPU: so that a first minute there is no surprise."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import __main__ as program
from experiments import budget, records
from experiments.measures import laws
from experiments.study import load
from tests.experiments.tiny import empty
from wfm.manifolds import Sphere

SMALL = "accelerator:small"


@pytest.mark.slow
def test_the_command_measures_laws_rates_and_presets(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")
    kinds = ("log undoes exp, hyperboloid", "equivariance, PNA", "density of a rotation")
    monkeypatch.setattr(laws, "LAWS", {name: laws.LAWS[name] for name in kinds})
    # Minutes count from the start of the process, which may have run other tests before.
    monkeypatch.setattr(budget, "_START", time.monotonic())
    program.main(["run", SMALL, f"--workdir={tmp_path}", "--config.minutes=30"])
    shown = capsys.readouterr().out
    assert "laws checked: 9, broken: 0" in " ".join(shown.split())
    found = records.read(tmp_path / "records.json")
    errors = records.where(found, {"metric": "error"})
    assert len(errors) == 9
    cases = [x.at["case"] for x in records.where(found, {"metric": "seconds median"})]
    assert cases == [name for name in load(SMALL).base.order if name != "device"]
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
    few = dict(list(laws.LAWS.items())[4:6])
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


class Careless(Sphere):
    """A sphere whose exponential map loses digits."""

    def exp(self, x, v):
        return super().exp(x, v).astype(jnp.bfloat16).astype(jnp.float32)


@pytest.mark.parametrize("law", [laws.log_undoes_exp, laws.solver_arrives])
def test_laws_see_lost_digits(law):
    precision = laws.PRECISIONS["float32"]
    errors = [law(kind((3,)), precision, jax.random.key(0)) for kind in (Sphere, Careless)]
    assert errors[0] < precision.largest < errors[1]


def test_a_law_that_is_no_number_somewhere_is_broken():
    assert jnp.isnan(laws.worst(lambda key: jnp.log(jax.random.normal(key)), jax.random.key(0)))


@pytest.mark.slow
@pytest.mark.parametrize("law", laws.LAWS)
def test_every_law_holds_on_a_cpu(law):
    precision = laws.PRECISIONS["float32"]
    assert laws.LAWS[law](precision, jax.random.key(1)) <= precision.largest
