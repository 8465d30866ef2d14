"""Points and settings that cannot be learned from: one sentence each, before the first step."""

import functools
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.nnx import Rngs

from experiments.log import MetricsLog
from wfm.fields import MLPField, RelationalTransformer
from wfm.flows import FlowMatching, Paired, VelocityPrediction
from wfm.manifolds import SPD, PoincareBall, Product, Sphere, Torus
from wfm.training import Checkpoints, Diverged, Trainer, adam, flow_trainer, learn
from wfm.weights import Canonical, mlp

NETWORK = mlp(4, 3, 2)
FORM = Canonical(NETWORK)
MATCHING = FlowMatching(FORM.manifold())
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
WEIGHTS = {n: RNG.normal(0, 0.5, (5, *NETWORK.shape(n))).astype("f") for n in NETWORK.arrays}
POINTS = jax.device_get(jax.jit(jax.vmap(FORM.encode))(WEIGHTS))  # numpy compiles nothing
ONE = jax.tree.map(lambda a: a[0], POINTS)
FOURTH = np.array([1, 1, 1, 1.1, 1], "f")[:, None, None]
SAME = Canonical(NETWORK, "euclidean")  # whose points have the arrays of the weights


@functools.cache
def field():
    return MLPField(ONE, width=2, depth=1, rngs=Rngs(0))


def with_row(row, value):
    """The points, with a number in a row of each array."""
    changed = jax.tree.map(np.copy, POINTS)
    for a in changed.values():
        a[row] = value
    return changed


BAD_POINTS = {
    "NaN": (MATCHING, with_row(2, jnp.nan), "the data are NaN or infinite in 1 rows (2); leave"),
    "infinite": (MATCHING, with_row(0, jnp.inf), "the data are NaN or infinite in 1 rows (0)"),
    "ten times": (
        MATCHING,
        jax.tree.map(lambda a: 10 * a, POINTS),
        "the data are off the manifold in 5 of 5 rows (0, 1, 2, 3, 4), by up to 0.9 of their size",
    ),
    "one off": (
        MATCHING,
        POINTS | {"dense1.kernel": POINTS["dense1.kernel"] * FOURTH},
        "off the manifold in 1 of 5 rows (3)",
    ),
    "not encoded": (
        MATCHING,
        WEIGHTS,
        "encode weights with the form that the flow's manifold is of",
    ),
    "not encoded, of the same arrays": (
        FlowMatching(SAME.manifold()),
        WEIGHTS,
        "off the manifold in 5 of 5 rows (0, 1, 2, 3, 4)",
    ),
    "one point": (
        MATCHING,
        ONE,
        "the data are one point; stack many of them along a new first axis",
    ),
    "another axis": (
        MATCHING,
        jax.tree.map(lambda a: a[None], POINTS),
        "the data['dense1.bias'] have shape (1, 5, 3); stacked points have (n, 3)",
    ),
    "unequal numbers": (
        MATCHING,
        POINTS | {"log_scale": POINTS["log_scale"][:3]},
        "data must be stacked arrays of equally many rows, at least one, got 3, 5",
    ),
    "none": (MATCHING, jax.tree.map(lambda a: a[:0], POINTS), "at least one, got 0"),
    "whole numbers": (
        MATCHING,
        jax.tree.map(lambda a: a.astype("int32"), POINTS),
        "the data['dense1.bias'] are int32; give floating-point numbers",
    ),
    "no pairs": (
        FlowMatching(FORM.manifold(), coupling=Paired()),
        POINTS,
        "the coupling Paired takes pairs: give the data as (x₀, x₁), stacked",
    ),
    "pairs of which one is off": (
        FlowMatching(FORM.manifold(), coupling=Paired()),
        (jax.tree.map(lambda a: 2 * a, POINTS), POINTS),
        "x₀ of the data are off the manifold in 5 of 5 rows",
    ),
    "out of the ball": (
        FlowMatching(PoincareBall(2), prediction=VelocityPrediction()),
        jnp.full((5, 2), 0.5).at[1].set(0.9),
        "off the manifold in 1 of 5 rows (1)",
    ),
    "not symmetric": (
        FlowMatching(SPD(2), prediction=VelocityPrediction()),
        jnp.stack([jnp.eye(2)] * 4 + [jnp.array([[1.0, 0.5], [0.0, 1.0]])]),
        "off the manifold in 1 of 5 rows (4)",
    ),
    "off beside angles": (
        FlowMatching(Product((Torus((2,)), Sphere((3,)))), prediction=VelocityPrediction()),
        (jnp.full((5, 2), 7.0), jnp.ones((5, 3))),
        "off the manifold in 5 of 5 rows",
    ),
    "an array for a tree": (MATCHING, jnp.ones((5, 3)), "the data have arrays for one array, and"),
}


@pytest.mark.parametrize("name", BAD_POINTS)
def test_points(name, as_in_use):
    matching, data, message = BAD_POINTS[name]
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        learn(matching, field(), data, KEY, steps=1)
    assert "\n" not in str(error.value)


def test_points_that_are_right_pass_in_any_precision_and_angles_in_any_turn():
    trainer, _, _ = flow_trainer(MATCHING, field(), adam(1e-2, 1))
    trainer.check(POINTS)
    trainer.check(jax.tree.map(lambda a: a.astype(jnp.bfloat16), POINTS))
    trainer.check(jax.tree.map(np.asarray, POINTS))
    check = flow_trainer(FlowMatching(Sphere((300,))), field(), adam(1e-2, 1))[0].check
    large = RNG.normal(size=(64, 300))
    check(jnp.asarray(large / np.linalg.norm(large, axis=1, keepdims=True), jnp.bfloat16))
    check = flow_trainer(FlowMatching(Torus((2,))), field(), adam(1e-2, 1))[0].check
    check(jnp.full((4, 2), 7.0))  # a turn more is the same point
    ambient = FlowMatching(
        FORM.manifold().ambient(), target=FORM.manifold(), prediction=VelocityPrediction()
    )
    flow_trainer(ambient, field(), adam(1e-2, 1))[0].check(POINTS)


def loss(params, example):
    row, _ = example
    return ((row - params) ** 2).sum()


ROWS, START = jnp.asarray(np.ones((6, 2), "f")), jnp.asarray(np.zeros(2, "f"))


def nothing(batch, key):
    return jax.tree.map(lambda a: a * jnp.nan, batch), jax.random.split(key, len(batch))


DIVERGENCES = {
    "data": (
        Trainer(loss, optax.sgd(0.1)),
        START,
        jnp.asarray(np.where(np.arange(6)[:, None] == 4, np.nan, ROWS).astype("f")),
        "the data are NaN or infinite in 1 rows (4): leave them out",
    ),
    "start": (
        Trainer(loss, optax.sgd(0.1)),
        jnp.asarray(np.array([np.inf, np.inf], "f")),
        ROWS,
        "the parameters at step 0 are so already: start from others",
    ),
    "examples": (
        Trainer(loss, optax.sgd(0.1), nothing),
        START,
        ROWS,
        "the data are finite, but what is made of them for training",
    ),
    "rate": (Trainer(loss, optax.sgd(1e30)), START, ROWS, "lower the learning rate"),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_loss_that_is_not_finite_has_its_cause_named(name):
    trainer, start, data, message = DIVERGENCES[name]
    with pytest.raises(Diverged, match=re.escape(message)):
        trainer.fit(trainer.init(start, KEY), data, 3)


def test_the_state_that_is_kept_is_finite_where_only_the_last_step_was_too_long():
    trainer = Trainer(lambda w, example: 1e10 * w.sum(), optax.sgd(1e30), batch_size=2)
    with pytest.raises(Diverged, match="non-finite at step 2; the state of step 0 is kept") as e:
        trainer.fit(trainer.init(START, KEY), ROWS, 3, chunk=1)
    assert jnp.isfinite(e.value.state.params).all()


def wrong(value) -> Any:
    """A value whose type no type checker would let pass."""
    return value


TRAINER = Trainer(loss, optax.sgd(0.1), batch_size=2)
BAD_SETTINGS = {
    "batch of 0": (
        lambda _: Trainer(loss, optax.sgd(0.1), batch_size=0),
        "batch_size must be at least 1, got 0",
    ),
    "batch of 2.0": (
        lambda _: Trainer(loss, optax.sgd(0.1), batch_size=wrong(2.0)),
        "batch_size must be a whole number, got 2.0",
    ),
    "half at once": (
        lambda _: Trainer(loss, optax.sgd(0.1), microbatch=wrong(0.5)),
        "microbatch must be a whole number, got 0.5",
    ),
    "1.5 steps": (
        lambda _: TRAINER.fit(TRAINER.init(START, KEY), ROWS, wrong(1.5)),
        "steps must be a whole number",
    ),
    "scheduled for 1.5 steps": (
        lambda _: adam(0.1, wrong(1.5)),
        "steps must be a whole number, got 1.5",
    ),
    "no rows": (
        lambda _: TRAINER.fit(TRAINER.init(START, KEY), ROWS[:0], 1),
        "at least one, got 0",
    ),
    "no data": (lambda _: TRAINER.fit(TRAINER.init(START, KEY), {}, 1), "at least one, got none"),
    "a number": (
        lambda _: TRAINER.fit(TRAINER.init(START, KEY), jnp.ones(()), 1),
        "at least one, got 0",
    ),
    "NaN guidance": (
        lambda _: MATCHING.flow(field()).guided(lambda x, key: jnp.zeros(()), float("nan"), KEY),
        "the scale of guidance must be finite, got nan",
    ),
    "unknown group": (
        lambda _: RelationalTransformer(FORM.spec, own_embedding=("h1", "h7"), rngs=Rngs(0)),
        "no ['h7']; choose some of ('in', 'h1', 'out')",
    ),
    "a group by its letters": (
        lambda _: RelationalTransformer(FORM.spec, own_embedding="h1", rngs=Rngs(0)),
        "no 'h1'; choose some of",
    ),
    "2.5 checkpoints": (
        lambda path: Checkpoints(path, keep=wrong(2.5)),
        "keep must be a whole number, got 2.5",
    ),
    "a file for the folder": (
        lambda path: Checkpoints(path / "file"),
        "is a file where the folder of checkpoints belongs",
    ),
    "a folder for the log": (
        lambda path: MetricsLog(path).read(),
        "cannot be read (Is a directory)",
    ),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_settings(name, tmp_path, as_in_use):
    (tmp_path / "file").touch()
    make, message = BAD_SETTINGS[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        make(tmp_path)


def test_damaged_lines_of_metrics_are_skipped_and_said_once(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    good = [{"step": 1, "loss": 0.5}, {"stage": "zoo", "seconds": 1.0}]
    lines = [json.dumps(r).encode() for r in good]
    bad = [b"null", b"[1]", b'{"step": 3, "lo', b"\xff\xfe\0", b"7"]
    log.path.write_bytes(
        b"\n".join([*bad[:2], lines[0], *bad[2:], lines[1], b"", b'{"step": "a"}'])
    )
    with pytest.warns(UserWarning, match=r"metrics.jsonl: 5 damaged lines are skipped") as told:
        assert log.read() == [*good, {"step": "a"}]
        log.truncate("step", 1)
        assert log.read() == [*good, {"step": "a"}]
    assert len(told) == 1
