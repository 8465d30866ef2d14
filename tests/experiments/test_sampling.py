"""Drawing networks from a flow, as a config says."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import pytest

from configs.base import small
from experiments.sampling import GUIDANCE_RATES, Sampling
from wfm.evaluation import evaluate
from wfm.flows import Flow, VelocityPrediction
from wfm.tasks import load_task
from wfm.weights import Canonical, mlp

KEY = jax.random.key(0)
TASK, NETWORK = load_task("iris"), mlp(4, 5, 3)
FORM = Canonical(NETWORK)


def still(t, x):
    return jax.tree.map(jnp.zeros_like, x)


def flow(field=still):
    return Flow(FORM.manifold(), field, prior=FORM.prior(0.3), prediction=VelocityPrediction())


def sampling(**changes):
    config = small()
    config.sampling.update({"networks": 7, "steps": 8, "chunk": 3} | changes)
    return Sampling.of(config, FORM, TASK.train)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"noise": 0.05, "noise_start": 0.5}, {"guidance": 5.0}])
def test_chunks_do_not_change_what_is_drawn_and_nothing_is_compiled_twice(changes):
    traces = []

    def counted(t, x):
        traces.append(t)
        return still(t, x)

    draw = sampling(**changes).sampler(flow(counted), FORM)
    whole = sampling(**changes, chunk=7).sampler(flow(), FORM)
    networks, before = draw(KEY), len(traces)
    chex.assert_trees_all_close(networks, whole(KEY), atol=1e-5)
    chex.assert_trees_all_equal(networks, draw(KEY))
    assert len(traces) == before
    assert all(len(array) == 7 for array in networks.values())


@pytest.mark.slow
def test_trajectories_come_chunk_by_chunk_and_end_at_the_samples():
    how = sampling(guidance=5.0)
    parts = list(how.trajectories(flow(), FORM, KEY))
    assert [len(next(iter(p.values()))) for p in parts] == [3, 3, 1]
    ends = jax.tree.map(lambda *a: jnp.concatenate(a)[:, -1], *parts)
    chex.assert_trees_all_close(ends, how.sampler(flow(), FORM)(KEY), atol=1e-5)


@pytest.mark.slow
def test_guidance_that_falls_starts_like_one_that_does_not():
    def draw(steps, rate):
        how = sampling(guidance=5.0, steps=steps, guidance_rate=rate)
        return how.sampler(flow(), FORM)(KEY)

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
    other = sampling(guidance=4.0, guidance_rate=rate).guidance
    assert jax.tree.structure(scale) == jax.tree.structure(other)  # so both are one program


@pytest.mark.slow
@pytest.mark.parametrize("rate", GUIDANCE_RATES)
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_guidance_lowers_the_loss_of_networks_that_would_stay_as_they_are(noise, rate):
    changes = {"networks": 20, "chunk": 20, "steps": 32, "guidance_input_noise": noise}
    changes["guidance_rate"] = rate
    draws = (sampling(**changes, guidance=g).sampler(flow(), FORM) for g in (0.0, 5.0))
    plain, guided = (evaluate(NETWORK, draw(KEY), TASK.test) for draw in draws)
    assert guided["loss"].mean() < 0.9 * plain["loss"].mean()


def test_guidance_data_must_fit_the_network():
    wine = load_task("wine")
    with pytest.raises(ValueError, match="the data have 13 inputs and the network 4"):
        Sampling.of(small(), FORM, wine.train)
    two = Canonical(mlp(4, 5, 2))
    with pytest.raises(ValueError, match="a class 2 and the network 2 outputs, counted from 0"):
        Sampling.of(small(), two, TASK.train)
    objective = sampling().objective
    for change, text in (({"batch_size": 0}, "at least 1"), ({"input_noise": -1.0}, "negative")):
        with pytest.raises(ValueError, match=text):
            dataclasses.replace(objective, **change)
