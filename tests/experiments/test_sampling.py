"""Drawing from a flow, the steps study and the Gaussian toy, small."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import gaussian as gaussian_config
from configs import steps as steps_config
from configs import uci as uci_config
from experiments import gaussian, steps
from experiments.publish.gaussian import publish as publish_gaussian
from experiments.publish.steps import publish as publish_steps
from experiments.sampling import GUIDANCE_RATES, Sampling
from wfm.evaluation import evaluate
from wfm.flows import EndPoint, Flow, Integrator, Velocity, midpoint
from wfm.tasks import load_task
from wfm.weights import Canonical, mlp

KEY = jax.random.key(0)
TASK, NETWORK = load_task("iris"), mlp(4, 5, 3)
FORM = Canonical(NETWORK)
FLOW = Flow(FORM.manifold(std=0.3), prediction=Velocity())


def still(t, x):
    return jax.tree.map(jnp.zeros_like, x)


def sampling(**changes):
    config = uci_config.get_config()
    config.sampling.update({"networks": 7, "steps": 8, "chunk": 3} | changes)
    return Sampling.of(config, FORM, TASK.train)


@pytest.mark.parametrize("changes", [{}, {"noise": 0.05, "noise_start": 0.5}, {"guidance": 5.0}])
def test_chunks_do_not_change_what_is_drawn_and_nothing_is_compiled_twice(changes):
    traces = []

    def counted(t, x):
        traces.append(t)
        return still(t, x)

    draw = sampling(**changes).sampler(FLOW, FORM, counted)
    whole = sampling(**changes, chunk=7).sampler(FLOW, FORM, still)
    networks, before = draw(KEY), len(traces)
    chex.assert_trees_all_close(networks, whole(KEY), atol=1e-5)
    chex.assert_trees_all_equal(networks, draw(KEY))
    assert len(traces) == before
    assert all(len(array) == 7 for array in networks.values())


def test_trajectories_come_chunk_by_chunk_and_end_at_the_samples():
    how = sampling(guidance=5.0)
    parts = list(how.trajectories(FLOW, FORM, still, KEY))
    assert [len(next(iter(p.values()))) for p in parts] == [3, 3, 1]
    ends = jax.tree.map(lambda *a: jnp.concatenate(a)[:, -1], *parts)
    chex.assert_trees_all_close(ends, how.sampler(FLOW, FORM, still)(KEY), atol=1e-5)


def test_guidance_that_falls_starts_like_one_that_does_not():
    def draw(steps, rate):
        how = sampling(guidance=5.0, steps=steps, guidance_rate=rate)
        return how.sampler(FLOW, FORM, still)(KEY)

    chex.assert_trees_all_equal(draw(1, "falling"), draw(1, "constant"))
    many = jax.tree.leaves(draw(2, "falling")), jax.tree.leaves(draw(2, "constant"))
    assert all((a != b).any() for a, b in zip(*many, strict=True))


@pytest.mark.parametrize(
    ("rate", "values"), [("falling", [8.0, 4.0, 2.0, 0.0]), ("hill", [0.0, 8.0, 6.0, 0.0])]
)
def test_guidance_is_as_large_as_its_rate_says(rate, values):
    scale = sampling(guidance=8.0, guidance_rate=rate).guidance
    assert callable(scale)
    assert [float(scale(t)) for t in (0.0, 0.5, 0.75, 1.0)] == values


@pytest.mark.parametrize("rate", GUIDANCE_RATES)
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_guidance_lowers_the_loss_of_networks_that_would_stay_as_they_are(noise, rate):
    changes = {"networks": 20, "chunk": 20, "steps": 32, "guidance_input_noise": noise}
    changes["guidance_rate"] = rate
    draws = (sampling(**changes, guidance=g).sampler(FLOW, FORM, still) for g in (0.0, 5.0))
    plain, guided = (evaluate(NETWORK, draw(KEY), TASK.test) for draw in draws)
    assert guided["loss"].mean() < 0.9 * plain["loss"].mean()


def test_guidance_data_must_fit_the_network():
    wine = load_task("wine")
    with pytest.raises(ValueError, match="the data have 13 inputs and the network 4"):
        Sampling.of(uci_config.get_config(), FORM, wine.train)
    two = Canonical(mlp(4, 5, 2))
    with pytest.raises(ValueError, match="a class 2 and the network 2 outputs, counted from 0"):
        Sampling.of(uci_config.get_config(), two, TASK.train)
    objective = sampling().objective
    for change, text in (({"batch_size": 0}, "at least 1"), ({"input_noise": -1.0}, "negative")):
        with pytest.raises(ValueError, match=text):
            dataclasses.replace(objective, **change)


@pytest.mark.parametrize("prediction", [Velocity(), EndPoint()])
def test_the_number_of_steps_need_not_be_known_in_advance(prediction):
    space = FORM.manifold(std=0.3)
    flow = Flow(space.ambient(), target=space, prediction=prediction)
    field = lambda t, x: jax.tree.map(lambda a: jnp.sin(3 * a) + t, x)  # noqa: E731
    traces = []

    def counted(t, x):
        traces.append(t)
        return field(t, x)

    drawn = jax.jit(lambda n: steps.sample_in_steps(flow, counted, KEY, midpoint, n))
    drawn(1)
    before = len(traces)
    for n in (1, 5, 8):
        expected = jax.jit(lambda n=n: flow.sample(field, KEY, Integrator(n, midpoint)))()
        chex.assert_trees_all_close(drawn(n), expected, atol=1e-5)
    assert len(traces) == before


@pytest.mark.parametrize(
    ("rate", "expected"), [("constant", [0.05, 0.05, 0.05]), ("falling", [0.05, 0.025, 0.0])]
)
def test_descent_goes_as_far_down_as_guidance(rate, expected):
    config = steps_config.get_config()
    config.base.sampling.guidance_rate = rate
    rates = steps.descent_rates(config, 200)  # guidance of 10
    np.testing.assert_allclose([rates(done) for done in (0, 100, 200)], expected, rtol=1e-6)


@pytest.mark.slow
def test_a_small_steps_study_measures_every_way_once(tmp_path):
    config = steps_config.get_config()
    base = config.base
    base.task, base.hidden = "iris", (5,)
    base.zoo.update({"networks": 8, "epochs": 4, "burn_in": 1, "stride": 2, "held_out": 0.25})
    base.field.update({"width": 8, "depth": 1})
    base.training.update({"steps": 4, "report_every": 2})
    base.sampling.update({"networks": 5, "chunk": 5})
    config.steps, config.solvers = (1, 3), ("euler", "midpoint")
    steps.run(config, str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    points = {(p["way"], p["steps"]): p for p in results["points"]}
    assert len(points) == len(results["points"]) == 2 * (2 * 2 + 4)
    assert all(np.isfinite(p["loss"]) and p["loss_error"] >= 0 for p in points.values())
    assert points["euler", 3]["loss"] != points["euler guided", 3]["loss"]
    assert results["zoo"]["accuracy"] > 0
    steps.run(config, str(tmp_path))  # everything is there already
    assert json.loads((tmp_path / "results.json").read_text())["points"] == results["points"]

    publish_steps(tmp_path / "docs" / "steps", [tmp_path])
    text = (tmp_path / "docs" / "steps.md").read_text()
    assert "--config.base.task=iris" in text
    assert "--config.steps='(1, 3)'" in text
    assert f"| midpoint guided | {points['midpoint guided', 1]['loss']:.4f} | " in text
    assert (tmp_path / "docs" / "steps.png").stat().st_size > 0
    records = json.loads((tmp_path / "docs" / "steps.json").read_text())
    novelty = {r["row"]: r["value"] for r in records if r["metric"] == "novelty"}
    assert novelty["geometric, euler, 3 steps"] == points["euler", 3]["novelty"]


@pytest.mark.slow
def test_the_gaussian_toy_shows_the_loss_of_variance_of_ideal_predictions(tmp_path):
    config = gaussian_config.get_config()
    config.widths = (6, 5, 2)
    config.training.update({"data": 64, "steps": 4, "report_every": 2})
    config.field.update({"width": 8, "depth": 1})
    gaussian.run(config, str(tmp_path))
    samples = json.loads((tmp_path / "results.json").read_text())["samples"]
    error = 4 / (2 * 200 * 47) ** 0.5  # of a standard deviation of 200 networks of 47 weights
    for name, std in {
        "velocity, ε = 0.0": 0.987,
        "displacement, ε = 0.0": 0.487,
        "displacement, ε = 0.05": 1.0,
        "score": 0.99,
    }.items():
        assert abs(samples[f"ideal: {name}"]["std"] - std) < error + 0.01
    assert samples["ideal: velocity, ε = 0.05"]["std"] > 1.1
    publish_gaussian(tmp_path / "docs" / "gaussian", [tmp_path])
    text = (tmp_path / "docs" / "gaussian.md").read_text()
    assert (
        f"| {samples['ideal: score']['mean']:.3f} | {samples['ideal: score']['std']:.3f} |" in text
    )
    assert (tmp_path / "docs" / "gaussian.png").stat().st_size > 0
