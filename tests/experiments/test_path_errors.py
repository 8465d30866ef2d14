"""Networks set back along the path and led on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import path_errors as configs
from experiments import path_errors
from experiments.command import UsageError
from experiments.publish.path_errors import publish
from tests.experiments.tiny import make_tiny, write_tasks
from wfm.flows import EndPoint, Flow, Integrator, Velocity, euler
from wfm.manifolds import Sphere

KEY = jax.random.key(2)


@pytest.mark.parametrize("t", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("prediction", [Velocity(), EndPoint()])
def test_a_field_that_knows_the_end_leads_there_without_loss(t, prediction):
    sphere = Sphere((5,))
    x0, x1 = (sphere.random(jax.random.key(seed)) for seed in (0, 1))
    flow = Flow(sphere, prediction=prediction)

    def field(t, x):
        to_end = jax.tree.map(lambda v: v / (1 - t), sphere.log(x, x1))
        return x1 if prediction.lands else to_end

    end, loss = path_errors.led_on(flow, field, Integrator(6, euler), x0, x1, KEY, t)
    np.testing.assert_allclose(end, x1, atol=2e-6)
    assert loss < 1e-6


def test_a_field_that_stands_still_stays_and_loses_the_length_of_the_way():
    sphere = Sphere((5,))
    x0, x1 = (sphere.random(jax.random.key(seed)) for seed in (0, 1))
    flow, still = Flow(sphere, prediction=Velocity()), lambda t, x: jnp.zeros_like(x)
    end, loss = path_errors.led_on(flow, still, Integrator(3, euler), x0, x1, KEY, 0.5)
    np.testing.assert_allclose(end, sphere.geodesic(x0, x1, 0.5), atol=1e-6)
    np.testing.assert_allclose(loss, sphere.dist(x0, x1) ** 2, rtol=1e-5)


@pytest.fixture
def config(tmp_path, monkeypatch):
    write_tasks(tmp_path, monkeypatch, "mnist")
    config = configs.get_config()
    make_tiny(config.base)
    config.times = (0.0, 0.5)
    return config


@pytest.mark.slow
def test_every_set_is_led_on_from_every_time_and_published(config, tmp_path):
    run = tmp_path / "geometric"
    path_errors.run(config, str(run))
    results = json.loads((run / "results.json").read_text())
    assert [(p["networks"], p["t"]) for p in results["points"]] == [
        ("seen", 0.0),
        ("seen", 0.5),
        ("unseen", 0.0),
        ("unseen", 0.5),
    ]
    assert all(p["flow_loss"] > 0 for p in results["points"])
    page = tmp_path / "page"
    publish(page, [run])
    seen, unseen = (results["points"][i]["accuracy"] for i in (1, 3))
    assert f"| 0.5 | {seen:.4f} / {unseen:.4f} | " in page.with_suffix(".md").read_text()
    assert page.with_suffix(".png").stat().st_size > 0
    led_on, as_trained = 5 * 4, 4 * 2  # networks as trained have no loss of the flow
    assert len(json.loads(page.with_suffix(".json").read_text())) == led_on + as_trained


@pytest.mark.parametrize("times", [(), (0.5, 1.0)])
def test_times_from_which_nothing_is_left_are_refused(config, tmp_path, times):
    config.times = times
    with pytest.raises(UsageError, match="choose times from 0 to below 1"):
        path_errors.run(config, str(tmp_path / "run"))
