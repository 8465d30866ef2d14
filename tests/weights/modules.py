"""Networks of libraries, each with one input and the labels that must be found."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


class Module(NamedTuple):
    """`apply(params, x)`, an input, and some arrays with their labels, and groups with theirs."""

    apply: Callable[[Any, Any], Any]
    params: Any
    x: Any
    labels: dict[str, Any]
    groups: str
    powers: str = ""


class LeNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.avg_pool(nn.relu(nn.Conv(4, (5, 5))(x)), (2, 2), (2, 2))
        x = nn.max_pool(nn.relu(nn.Conv(6, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
        return nn.Dense(3)(nn.relu(nn.Dense(8)(x.reshape(-1))))


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        norm = lambda x: nn.BatchNorm(use_running_average=True)(x)  # noqa: E731
        conv = lambda x: nn.Conv(4, (3, 3), use_bias=False)(x)  # noqa: E731
        x = nn.relu(norm(conv(x)))
        x = nn.relu(x + norm(conv(nn.relu(norm(conv(x))))))
        return nn.Dense(3)(x.mean((0, 1)))


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        x = x + nn.Dense(8, name="down")(nn.gelu(nn.Dense(12, name="up")(nn.LayerNorm()(x))))
        return nn.Dense(3, name="out")(nn.LayerNorm()(x).mean(0))


def linen(module, x, labels, groups, powers=""):
    return Module(module.apply, module.init(jax.random.key(0), x), x, labels, groups, powers)


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.down = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.relu(self.norm(self.up(x))))


class Attentive(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.read = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x)
        return self.read((x + self.attend(self.norm(x))).mean(0))


def of_nnx(module, x, labels, groups, powers=""):
    graph, state = nnx.split(module)
    apply = lambda state, x: nnx.merge(graph, state)(x)  # noqa: E731
    return Module(apply, state, x, labels, groups, powers)


class Depthwise(eqx.Module):
    conv: eqx.nn.Conv2d
    depth: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    linear: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.conv = eqx.nn.Conv2d(1, 4, 3, key=keys[0])
        self.depth = eqx.nn.Conv2d(4, 4, 3, groups=4, key=keys[1])
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.linear = eqx.nn.Linear(36, 3, key=keys[2])

    def __call__(self, x):
        x = jax.nn.relu(self.depth(jax.nn.relu(self.conv(x))))
        return self.linear(jnp.ravel(self.pool(x)))


class Recurrent(eqx.Module):
    cell: eqx.nn.LSTMCell
    linear: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.cell = eqx.nn.LSTMCell(4, 8, key=keys[0])
        self.linear = eqx.nn.Linear(8, 3, key=keys[1])

    def __call__(self, x):
        start = jnp.zeros(8), jnp.zeros(8)
        (h, _), _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), start, x)
        return self.linear(h)


class Heads(eqx.Module):
    embed: eqx.nn.Linear
    attend: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    read: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.embed = eqx.nn.Linear(4, 8, key=keys[0])
        self.attend = eqx.nn.MultiheadAttention(2, 8, key=keys[1])
        self.norm = eqx.nn.LayerNorm(8)
        self.read = eqx.nn.Linear(8, 3, key=keys[2])

    def __call__(self, x):
        x = jax.vmap(self.embed)(x)
        y = jax.vmap(self.norm)(x)
        return self.read((x + self.attend(y, y, y)).mean(0))


def of_equinox(module, x, labels, groups, powers=""):
    return Module(lambda module, x: module(x), module, x, labels, groups, powers)


HEADS = "MultiHeadDotProductAttention_0"
MODULES = {
    "linen LeNet": linen(
        LeNet(),
        jnp.ones((14, 14, 1)),
        {
            "params.Conv_0.kernel": (5, 5, "in", "Conv_0"),
            "params.Conv_1.kernel": (5, 5, "Conv_0", "Conv_1"),
            "params.Dense_1.kernel": ("Conv_1", "Dense_1"),
            "params.Dense_0.kernel": ("Dense_1", "out"),
        },
        "Conv_0+r Conv_1+r Dense_1+r",
    ),
    "linen residual": linen(
        Residual(),
        jnp.ones((6, 6, 2)),
        {
            "params.Conv_0.kernel": (3, 3, "in", "Conv_0"),
            "batch_stats.BatchNorm_0.mean": ("Conv_0",),
            "batch_stats.BatchNorm_0.var": ("Conv_0",),
            "params.BatchNorm_0.scale": (("Conv_0", "BatchNorm_0"),),
            "params.BatchNorm_2.scale": (("Conv_2", "BatchNorm_0"),),
            "params.Conv_1.kernel": (3, 3, "BatchNorm_0", "Conv_1"),
            "params.Dense_0.kernel": ("BatchNorm_0", "out"),
        },
        "Conv_0* BatchNorm_0+r Conv_1* BatchNorm_1+r Conv_2*",
        " ".join(f"batch_stats.BatchNorm_{i}.var.Conv_{i}^0" for i in range(3)),
    ),
    "linen transformer": linen(
        Transformer(),
        jnp.ones((5, 4)),
        {
            "params.Dense_0.kernel": ("in", "Dense_0"),
            "params.LayerNorm_0.scale": (("Dense_0", "LayerNorm_0"),),
            f"params.{HEADS}.query.kernel": ("LayerNorm_0", "query", 4),
            f"params.{HEADS}.key.kernel": ("LayerNorm_0", "query", 4),
            f"params.{HEADS}.out.kernel": ("value", 4, "Dense_0"),
            "params.up.kernel": ("LayerNorm_1", "up"),
            "params.down.kernel": ("up", "Dense_0"),
            "params.out.kernel": ("LayerNorm_2", "out"),
        },
        "Dense_0- LayerNorm_0* query* value* LayerNorm_1* up- LayerNorm_2*",
        f"params.{HEADS}.key.kernel.query^-1 params.{HEADS}.key.bias.query^-1",
    ),
    "nnx normed": of_nnx(
        Normed(nnx.Rngs(0)),
        jnp.ones(4),
        {"up.kernel": ("in", "up"), "norm.scale": (("up", "norm"),), "down.bias": ("out",)},
        "up* norm+r",
        "norm.var.up^0",
    ),
    "nnx attention": of_nnx(
        Attentive(nnx.Rngs(0)),
        jnp.ones((5, 4)),
        {
            "norm.scale": (("embed", "norm"),),
            "attend.value.kernel": ("norm", "value", 4),
            "attend.out.kernel": ("value", 4, "embed"),
        },
        "embed- norm* query* value*",
        "attend.key.kernel.query^-1 attend.key.bias.query^-1",
    ),
    "equinox mlp": of_equinox(
        eqx.nn.MLP(4, 3, 8, 2, key=jax.random.key(0)),
        jnp.ones(4),
        {"layers.0.weight": ("in", "layers.0"), "layers.2.weight": ("layers.1", "out")},
        "layers.0+r layers.1+r",
    ),
    "equinox depthwise": of_equinox(
        Depthwise(jax.random.key(0)),
        jnp.ones((1, 10, 10)),
        {
            "conv.weight": ("in", "conv", 3, 3),
            "conv.bias": ("conv", 1, 1),
            "depth.weight": (("conv", "depth"), 1, 3, 3),
            "linear.weight": ("depth", "out", 3, 3),
        },
        "conv+r depth+r",
    ),
    "equinox recurrent": of_equinox(
        Recurrent(jax.random.key(0)),
        jnp.ones((5, 4)),
        {
            "cell.weight_ih": (4, "in", "cell"),
            "cell.weight_hh": (4, "cell", "cell"),
            "linear.weight": ("cell", "out"),
        },
        "cell-",
    ),
    "equinox attention": of_equinox(
        Heads(jax.random.key(0)),
        jnp.ones((5, 4)),
        {
            "norm.weight": (("embed", "norm"),),
            "attend.query_proj.weight": (4, "norm", "query_proj"),
            "attend.output_proj.weight": ("value_proj", "embed", 4),
        },
        "embed- norm* query_proj* value_proj*",
        "attend.key_proj.weight.query_proj^-1",
    ),
}
