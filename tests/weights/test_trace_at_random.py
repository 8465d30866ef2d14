"""Networks drawn at random from blocks: whatever is found must keep what they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.traced import normed
from wfm.weights import trace

WIDTH = 8
ACTIVATIONS = (
    jax.nn.relu,
    jax.nn.leaky_relu,
    jnp.tanh,
    jnp.abs,
    jnp.square,
    jax.nn.gelu,
    jnp.sin,
    jax.nn.softmax,
    lambda h: jnp.clip(h, -1, 1),
    lambda h: h / (1 + jnp.abs(h)),
    lambda h: h * jax.nn.sigmoid(h),
    lambda h: jnp.sign(h) * jnp.sqrt(jnp.abs(h) + 1e-3),
)
MOVES = (
    lambda h: h[::-1],
    lambda h: jnp.roll(h, 3),
    jnp.cumsum,
    lambda h: h.reshape(4, 2).T.reshape(-1),
    lambda h: jnp.repeat(h.reshape(2, 4).mean(0), 2),
    lambda h: jnp.concatenate([h[:4], jax.nn.relu(h[4:])]),
    lambda h: normed(h.reshape(4, 2)).reshape(-1),
    lambda h: jnp.stack([h, -h]).max(0),
    lambda h: h * jnp.arange(1.0, 9.0),
    lambda h: h + h.mean(),
    lambda h: h / jnp.sqrt((h**2).sum() + 1e-3),
    lambda h: jnp.outer(h, h).sum(0),
    lambda h: jnp.sort(h),
    lambda h: jnp.where(h > h.mean(), h, 0.0),
)
WEIGHTED = (
    ((WIDTH, WIDTH), lambda w, h, past: h @ w),
    ((WIDTH, WIDTH), lambda w, h, past: w @ h),
    ((WIDTH, WIDTH), lambda w, h, past: h + jax.nn.relu(h @ w) @ w.T),
    ((WIDTH, WIDTH), lambda w, h, past: h * jnp.tanh(past @ w)),
    ((WIDTH,), lambda w, h, past: h + w),
    ((WIDTH,), lambda w, h, past: h * w),
    ((WIDTH,), lambda w, h, past: jnp.where(h > 0, h, w * h)),
    ((WIDTH,), lambda w, h, past: h / (jnp.abs(w) + 1)),
    ((2, WIDTH, WIDTH), lambda w, h, past: jnp.einsum("khj,h->kj", w, h).max(0)),
    ((WIDTH, 2 * WIDTH), lambda w, h, past: (lambda z: z[:WIDTH] * z[WIDTH:])(h @ w)),
    ((WIDTH, WIDTH), lambda w, h, past: h @ (w / jnp.sqrt((w**2).sum(0, keepdims=True) + 1e-3))),
    ((), lambda w, h, past: h * w),
)


def drawn(seed):
    """A function of a dict of arrays and an input, and arrays for it."""
    rng = np.random.default_rng(seed)
    shapes, steps = {"first": (5, WIDTH)}, []
    for i in range(rng.integers(4, 9)):
        kind = rng.choice(["weights", "activation", "move", "skip"], p=[0.5, 0.25, 0.15, 0.1])
        if kind == "weights":
            shape, step = WEIGHTED[rng.integers(len(WEIGHTED))]
            shapes[f"w{i}"] = shape
            steps.append((f"w{i}", step))
        elif kind == "skip":
            steps.append((None, lambda w, h, past: h + past))
        else:
            choices = ACTIVATIONS if kind == "activation" else MOVES
            chosen = choices[rng.integers(len(choices))]
            steps.append((None, lambda w, h, past, chosen=chosen: chosen(h)))
    shapes["last"] = (WIDTH, 3)

    def apply(p, x):
        past = h = x @ p["first"]
        for name, step in steps:
            past, h = h, step(p.get(name), h, past)
        return h @ p["last"]

    weights = {n: rng.normal(size=s) / max(1, s[0] if s else 1) ** 0.5 for n, s in shapes.items()}
    return apply, {n: jnp.asarray(a, jnp.float32) for n, a in weights.items()}


def check(seed):
    apply, params = drawn(seed)
    x = np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)
    spec = trace(apply, params, x[0])
    stacked = jax.tree.map(lambda a: a[None], spec.from_params(params))
    spec.verify(stacked, x)
    return sum(g.size for g in spec.groups.values() if g.permutable)


def test_networks_drawn_at_random():
    with jax.numpy_rank_promotion("allow"):
        free = [check(seed) for seed in range(8)]
    assert sum(n > 0 for n in free) > 2  # or nothing was tried


@pytest.mark.slow
def test_many_networks_drawn_at_random():
    with jax.numpy_rank_promotion("allow"):
        for seed in range(8, 120):
            check(seed)
