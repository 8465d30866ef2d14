"""Training: descent, averages, divergence, checkpoints, compilation."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.nnx import Rngs

from experiments.log import MetricsLog, progress_bar
from wfm.fields import MLPField, RelationalTransformer
from wfm.flows import FlowMatching, VelocityPrediction
from wfm.manifolds import Euclidean
from wfm.priors import standard
from wfm.training import (
    Checkpoints,
    Diverged,
    Trainer,
    adam,
    flow_trainer,
    learn,
    muon,
)
from wfm.weights import AsTrained, mlp


def loss(params, example):
    """Squared distance of a row to the parameter, with noise from the key."""
    row, key = example
    return ((row + 0.01 * jax.random.normal(key, row.shape) - params["w"]) ** 2).mean()


KEY = jax.random.key(0)
DATA = 3 + jax.random.normal(jax.random.key(1), (500, 2))
START = {"w": jnp.zeros(2)}


def trainer(**options):
    return Trainer(loss, options.pop("optimizer", optax.sgd(0.1)), **({"batch_size": 50} | options))


def test_training_finds_the_mean():
    t = trainer(optimizer=adam(0.1, 300), ema_decay=0.99)
    state = t.fit(t.init(START, jax.random.key(0)), DATA, 300)
    assert int(state.step) == 300
    error = 4 * DATA.std() / 50**0.5
    np.testing.assert_allclose(state.params["w"], DATA.mean(0), atol=error)
    np.testing.assert_allclose(state.ema["w"], DATA.mean(0), atol=error / 2)


def test_muon_moves_each_kernel_equally_in_all_directions_and_the_rest_as_nadam_does():
    key = jax.random.key(0)
    params = {"kernel": jnp.ones((3, 4, 6)), "bias": jnp.ones((3, 6))}  # three layers, stacked
    gradient = jax.tree.map(lambda a: 0.01 * jax.random.normal(key, a.shape), params)
    gradient["kernel"] *= jnp.array([1, 0.5, 0.2, 0.1])[None, :, None]  # steep in some directions

    def second_change(optimizer):  # in the first, the learning rate is still 0
        state = optimizer.init(params)
        _, state = optimizer.update(gradient, state, params)
        return jax.jit(optimizer.update)(gradient, state, params)[0]

    rate = optax.linear_schedule(0.0, 0.1, 1)  # as after the one step of warm-up
    ours, adams = second_change(muon(0.1, 20)), second_change(optax.nadam(rate))
    np.testing.assert_allclose(ours["bias"], adams["bias"], rtol=1e-5)
    values = np.linalg.svd(ours["kernel"], compute_uv=False)
    # Newton and Schulz's iteration ends with singular values of about 0.7 to 1.2, not of 1.
    np.testing.assert_allclose(values, 0.1 * 0.2 * 6**0.5, rtol=0.4)
    before = np.linalg.svd(gradient["kernel"], compute_uv=False)
    assert (before[:, 0] > 5 * before[:, -1]).all()
    assert ((ours["kernel"] * gradient["kernel"]).sum((1, 2)) < 0).all()  # downhill, each


def test_average_is_the_running_average_it_claims():
    t = trainer(ema_decay=0.9)
    state = t.init(START, jax.random.key(0))
    average = np.zeros(2)
    for step in range(30):
        state, _ = t.advance(state, DATA, 1)
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * np.asarray(state.params["w"])
    np.testing.assert_allclose(state.ema["w"], average, rtol=1e-5)


def test_chunks_do_not_change_the_result_and_compile_once():
    t = trainer()
    state = t.init(START, jax.random.key(0))
    one = t.fit(state, DATA, 40, chunk=40)
    chex.clear_trace_counter()
    counted = Trainer(chex.assert_max_traces(loss, n=1), optax.sgd(0.1), batch_size=50)
    many = counted.fit(state, DATA, 40, chunk=10)
    chex.assert_trees_all_equal(one.params, many.params)


def test_no_transfer_inside_a_chunk():
    t = trainer()
    state = t.init(START, jax.random.key(0))
    state, _ = t.advance(state, DATA, 5)
    with jax.transfer_guard("disallow"):
        t.advance(state, DATA, 5)


def test_divergence_keeps_the_last_good_state():
    def bad(params, example):
        w = params["w"]
        return jnp.where(w[0] > 1.0, jnp.nan, 0.0) + loss(params, example)

    t = Trainer(bad, optax.sgd(0.1), batch_size=50)
    with pytest.raises(
        Diverged, match=r"non-finite at step \d+; the state of step \d+ is kept"
    ) as e:
        t.fit(t.init(START, jax.random.key(0)), DATA, 100, chunk=2)
    error = e.value
    assert int(error.state.step) <= error.step - 1
    assert jnp.isfinite(error.state.params["w"]).all()
    replay = t.fit(t.init(START, jax.random.key(0)), DATA, error.step - 1, chunk=1)
    assert float(replay.params["w"][0]) > 1.0


def test_resuming_from_a_checkpoint_gives_the_same_bits(tmp_path):
    t = trainer(optimizer=adam(0.05, 60))
    state = t.init(START, jax.random.key(0))
    whole = t.fit(state, DATA, 60, chunk=10)
    first = Checkpoints(tmp_path)
    assert first.restore(state) is None
    first.save(t.fit(state, DATA, 30, chunk=10))
    first.close()
    second = Checkpoints(tmp_path)
    resumed = t.fit(second.restore(state), DATA, 60, chunk=10)
    second.close()
    plain = lambda s: [s.params, s.ema, s.opt_state, s.step, jax.random.key_data(s.key)]  # noqa: E731
    chex.assert_trees_all_equal(plain(whole), plain(resumed))


class Counted(MLPField):
    """A field that knows how often it was traced."""

    traces = 0

    def __call__(self, t, x):
        Counted.traces += 1
        return super().__call__(t, x)


def test_learning_again_from_other_data_traces_and_compiles_nothing():
    def losses(seed, scale):
        matching = FlowMatching(Euclidean((2,)), prior=standard(Euclidean((2,)), scale), unit=scale)
        field = Counted(jnp.ones(2), width=4, depth=1, unit=scale, rngs=Rngs(seed))
        return learn(matching, field, scale * DATA, jax.random.key(seed), steps=2)[1]

    before = losses(0, 1.0)
    traces = Counted.traces
    assert losses(1, 3.0) != before
    assert Counted.traces == traces > 0


def test_optimizers_of_equal_settings_are_one_and_rates_may_be_arrays(as_in_use):
    rate = np.float32(0.125)
    assert adam(0.125, 20) is adam(rate, 20) is adam(jnp.asarray(rate), 20) is not muon(0.125, 20)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        adam(0.125, 20.0)  # type: ignore


@pytest.mark.slow
def test_training_in_half_precision_is_as_good():
    """Over the last steps; both see the same batches, times and noise."""
    spec = mlp(3, 4, 2)
    matching = FlowMatching(AsTrained(spec).manifold())
    draw = AsTrained(spec).prior(0.3).sample
    data = jax.vmap(draw)(jax.random.split(jax.random.key(1), 64))
    final = []
    for dtype in (jnp.float32, jnp.bfloat16):
        field = RelationalTransformer(spec, width=16, depth=1, dtype=dtype, rngs=Rngs(0))
        t, _, params = flow_trainer(matching, field, muon(1e-2, 100), batch_size=16)
        losses = []
        t.fit(t.init(params, KEY), data, 100, 25, lambda _, m, to=losses: to.append(m["loss"]))
        assert losses[-1] < 0.5 * losses[0]
        final.append(losses[-1])
    assert final[0] != final[1]
    assert final[1] == pytest.approx(final[0], rel=0.03)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: trainer(batch_size=0), "batch_size must be at least 1"),
        (lambda: trainer(ema_decay=1.0), "ema_decay must lie in"),
        (lambda: trainer().fit(trainer().init(START, jax.random.key(0)), DATA, 0), "at least 1"),
    ],
)
def test_impossible_settings(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_metrics_are_json_lines(tmp_path, capsys):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.write(step=step, loss=0.5)
    log.write(stage="zoo", seconds=1.0)
    log.truncate("step", 2)
    assert log.read() == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.5},
        {"stage": "zoo", "seconds": 1.0},
    ]
    assert all(json.loads(line) for line in log.path.read_text().splitlines())
    with log.path.open("a") as file:
        file.write('{"step": 3, "lo')  # by a process that was killed
    log.write(step=4)
    assert [record.get("step") for record in log.read()] == [1, 2, None, 4]
    with progress_bar("Training", 10) as bar:
        bar.update(5, "loss 0.5")
        bar.update(10)
    assert "10/10" in capsys.readouterr().err


def test_what_is_learned_is_a_flow_and_its_losses_and_the_key_decides():
    space = Euclidean((2,))
    matching = FlowMatching(space, prior=standard(space, 0.5), prediction=VelocityPrediction())
    module = MLPField(jnp.zeros(2), width=8, depth=1, rngs=Rngs(0))

    def learned(key):
        return learn(matching, module, DATA, key, steps=120, batch_size=32, ema_decay=0.9)

    flow, losses = learned(KEY)
    assert losses.shape == (3,)  # two reports of 50 steps, one of 20
    assert losses[-1] < 0.5 * losses[0]
    mean = jax.jit(lambda flow: jax.vmap(flow.sample)(jax.random.split(KEY, 500)).mean(0))
    assert abs(mean(flow) - DATA.mean(0)).max() < 1  # from 3 away
    again, _ = learned(KEY)
    other, _ = learned(jax.random.key(1))
    assert jax.tree.structure(flow) == jax.tree.structure(other)
    chex.assert_trees_all_equal(flow, again)
    assert any(
        (a != b).any()
        for a, b in zip(*map(jax.tree.leaves, (flow.field, other.field)), strict=True)
    )
