"""Every architecture the tests run on: a new one is one line here."""

import functools

import jax

from tests.cases import cases
from wfm.weights import AsTrained, Canonical, align, cnn, mlp, residual_mlp

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
}
CASES = cases(NETWORKS, often=("mlp", "tanh", "residual", "cnn"))


def weights(spec, seed: int, std: float = 0.5):
    """Random weights."""
    return _drawn(spec, jax.random.key(seed), std)


@functools.partial(jax.jit, static_argnums=0)
def _drawn(spec, key, std):
    return AsTrained(spec).prior(std).sample(key)


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
