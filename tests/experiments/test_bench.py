"""What benchmarks count, run and write."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import records
from experiments.bench import flops, jax_cases
from experiments.bench.flops import product_flops
from experiments.bench.page import slopes
from experiments.measures import bench as measure
from experiments.runner import run_study
from experiments.store import Store
from experiments.study import load
from experiments.workdir import Workdir

TINY = {"widths": [3, 4, 2], "width": 4, "depth": 1}


def test_products_are_counted_wherever_they_are():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    one = 2 * 3 * 4 * 5
    assert product_flops(jnp.matmul, a, b) == one
    assert product_flops(jax.jit(jnp.matmul), a, b) == one
    assert product_flops(lambda a, b: jax.lax.scan(lambda c, _: (c, a @ b), 0, length=7), a, b) == (
        7 * one
    )
    stacked = jnp.ones((6, 3, 4))
    assert product_flops(jax.vmap(jnp.matmul, (0, None)), stacked, b) == 6 * one
    # The gradient of a product is two products more; the sum needs no value of the first.
    gradient = jax.grad(lambda a, b: ((a @ b) ** 2).sum(), (0, 1))
    assert product_flops(gradient, a, b) == 3 * one


def test_products_alone_are_timed_as_often_as_they_are_computed(monkeypatch):
    monkeypatch.setattr(flops, "_seconds", lambda product: product.flops())
    a = jnp.ones((3, 3))
    repeated = lambda a: jax.lax.scan(lambda c, _: (a @ c, jnp.trace(a.T @ c)), a, length=7)  # noqa: E731
    assert flops.product_seconds(repeated, a) == product_flops(repeated, a) == 14 * 54
    monkeypatch.undo()
    assert 0 < flops.product_seconds(repeated, a) < 0.1
    assert flops.product_seconds(jnp.matmul, jnp.ones((3, 0)), jnp.ones((0, 3))) == 0


def test_growth_is_fitted_by_powers():
    weights = np.array([300.0, 1e4, 1e5, 1e6])
    rows = np.stack([weights, 3 * weights, 0.1 * weights**1.5], 1)
    np.testing.assert_allclose(slopes(rows), (1.0, 1.5), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["graph", "full"])
def test_cases_measure_what_they_say(attention, monkeypatch):
    monkeypatch.setattr(flops, "SIDE", 64)
    found = jax_cases.training(batch=8, microbatch=1, attention=attention, **TINY)
    assert found["seconds"]["median"] > 0
    assert found["weights"] == 3 * 4 + 4 + 4 * 2 + 2
    drawn = jax_cases.sampling(networks=2, steps=3, at_once=1, attention=attention, **TINY)
    # A step takes the field forward and back, which is three times its products; 8 for 6.
    assert found["product_flops"] / 8 == pytest.approx(3 * drawn["product_flops"] / 6, rel=0.2)


@pytest.mark.slow
def test_cases_run_in_processes_of_their_own_once(tmp_path, monkeypatch, capsys):
    case = {"module": "jax_cases", "case": "coupling", "env": {}}
    options = {"name": "ot", "widths": [3, 4, 2], "batch": 4}
    cases = {"one": case | {"options": options}, "bad": case | {"options": {"batch": 0}}}
    base = ConfigDict({"seed": 0, "cases": cases})
    study = dataclasses.replace(load("bench"), base=base, page=())

    def run():
        return run_study(study, Workdir(tmp_path / "run", study), Store(tmp_path / "store"))

    found = run()
    (median,) = records.where(found, {"case": "one", "metric": "seconds median"})
    assert median.value > 0
    (bad,) = records.where(found, {"case": "bad", "metric": "failed"})
    assert bad.value == 1
    assert "TypeError" in capsys.readouterr().out
    monkeypatch.setattr(measure, "_figures", lambda *_: pytest.fail("ran again"))
    assert run() == found


def test_every_case_of_the_config_exists():
    for name, case in load("bench").base.cases.items():
        if case.module == "jax_cases":
            assert callable(getattr(jax_cases, case.case)), name
