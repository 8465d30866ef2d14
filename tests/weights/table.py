"""Every architecture the tests run on: a new one is one line here."""

import functools

import jax
import jax.numpy as jnp

from tests.cases import cases
from wfm.weights import (
    AsTrained,
    Canonical,
    align,
    cnn,
    lenet5,
    mlp,
    residual_mlp,
    resnet,
    siren,
    small_cnn,
    vit,
)

# Spec, and the shape of one input.
NETWORKS = {
    "mlp": (mlp(5, 8, 6, 3), (5,)),
    "mlp_uci": (mlp(30, 16, 16, 2), (30,)),
    "deep": (mlp(4, 5, 6, 5, 4, 2, activation="leaky_relu"), (4,)),
    "tanh": (mlp(5, 7, 6, 3, activation="tanh"), (5,)),
    "gelu": (mlp(5, 7, 6, 3, activation="gelu"), (5,)),
    "linear": (mlp(5, 3), (5,)),
    "residual": (residual_mlp(5, 8, 6, 3, blocks=2), (5,)),
    "cnn": (cnn(2, 4, 5, d_out=3), (6, 6, 2)),
    "no bias": (mlp(5, 8, 6, 3, bias=False), (5,)),
    "layer norm": (mlp(5, 8, 6, 3, layer_norm=True), (5,)),
    "small cnn": (small_cnn(1, 3, width=4), (15, 15, 1)),
    "lenet5": (lenet5(16, 1, 3, widths=(3, 4, 5, 4)), (16, 16, 1)),
    "resnet": (resnet(8, 2, 1, 3), (4, 4, 1)),
    "folded resnet": (resnet(8, 2, 1, 3, batch_norm=False), (4, 4, 1)),
    "vit": (vit(4, 2, 6, 2, 1, hidden=5, d_out=3), (4, 4, 1)),
    "siren": (siren(2, 8, 6, 3, w0=3.0), (2,)),
}
CASES = cases(NETWORKS, often=("mlp", "tanh", "residual", "cnn", "layer norm"))


def weights(spec, seed: int, std: float = 0.5):
    """Random weights."""
    return _drawn(spec, jax.random.key(seed), std)


@functools.partial(jax.jit, static_argnums=0)
def _drawn(spec, key, std):
    return drawn(spec, key, std)


def drawn(spec, key, std: float = 0.5):
    """Random weights, but variances about 1."""
    w = AsTrained(spec).prior(std).sample(key)
    return {n: jnp.abs(a) + 0.5 if spec.holds_variances(n) else a for n, a in w.items()}


def inputs(shape, n: int = 20):
    """Random inputs."""
    return jax.random.normal(jax.random.key(99), (n, *shape))


def outputs(spec, weights, x):
    """Outputs for all inputs."""
    return jax.vmap(lambda row: spec.apply(weights, row))(x)


def function(spec, weights, x):
    """What networks compute: log-probabilities of classes, or the one output."""
    found = outputs(spec, weights, x)
    return jax.nn.log_softmax(found) if found.shape[-1] > 1 else found


@functools.cache
def canonical(spec, last="sphere+scale", keep_logits=False):
    """The canonical form, one object for each choice, so that jitted functions know it again."""
    return Canonical(spec, last, keep_logits)


# Compiled once for each network instead of once for each example.
outputs = functools.partial(jax.jit, static_argnums=0)(outputs)
aligned = functools.partial(jax.jit, static_argnums=0)(align)


@functools.partial(jax.jit, static_argnums=0)
def encoded(form, weights):
    """`form.encode`, compiled."""
    return form.encode(weights)
