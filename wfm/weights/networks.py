"""Architectures: each is defined by its labels and its forward pass alone."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from wfm.errors import UserError
from wfm.weights.scaling import NO_SCALING, LinearScaling, PositiveScaling, Scaling, SignScaling
from wfm.weights.spec import Group, Weights, WeightSpec

Activation = Callable[[Array], Array]

ACTIVATIONS: dict[str, tuple[Activation, Scaling]] = {
    "relu": (jax.nn.relu, PositiveScaling(rectifies=True)),
    "leaky_relu": (jax.nn.leaky_relu, PositiveScaling()),
    "tanh": (jnp.tanh, SignScaling()),
    "gelu": (jax.nn.gelu, NO_SCALING),
}
"""Activations by name, each with the rescalings of a neuron that it allows."""


def _activation(name: str) -> tuple[Activation, Scaling]:
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _dense(weights: Weights, layer: str, x: Array) -> Array:
    return x @ weights[f"{layer}.kernel"] + weights[f"{layer}.bias"]


@dataclasses.dataclass(frozen=True)
class _MLP:
    layers: int
    act: Activation

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]:
        values = {}
        for i in range(1, self.layers):
            x = values[f"h{i}"] = self.act(_dense(weights, f"dense{i}", x))
        return values | {"out": _dense(weights, f"dense{self.layers}", x)}


def mlp(*widths: int, activation: str = "relu") -> WeightSpec:
    """Fully connected network, as in `mlp(30, 16, 16, 2)`: inputs, hidden layers, outputs.

    Groups `in`, `h1`, …, `out`; arrays `dense1.kernel` (d₀, d₁), `dense1.bias` (d₁,), ….
    """
    if len(widths) < 2:
        raise UserError(f"an mlp needs at least input and output widths, got {widths}")
    act, scaling = _activation(activation)
    n_layers = len(widths) - 1
    hidden = [f"h{i}" for i in range(1, n_layers)]
    names = ["in", *hidden, "out"]
    groups = {name: Group(width, True, scaling) for name, width in zip(names, widths, strict=True)}
    groups |= {"in": Group(widths[0], False), "out": Group(widths[-1], False)}
    arrays = {}
    for i in range(1, n_layers + 1):
        arrays[f"dense{i}.kernel"] = (names[i - 1], names[i])
        arrays[f"dense{i}.bias"] = (names[i],)
    return WeightSpec(groups, arrays, _MLP(n_layers, act))


@dataclasses.dataclass(frozen=True)
class _ResidualMLP:
    blocks: int
    act: Activation

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]:
        x = _dense(weights, "embed", x)
        values, stream = {}, [x]
        for i in range(1, self.blocks + 1):
            hidden = values[f"h{i}"] = self.act(_dense(weights, f"up{i}", x))
            x = x + _dense(weights, f"down{i}", hidden)
            stream.append(x)
        return values | {"stream": jnp.stack(stream), "out": _dense(weights, "out", x)}


def residual_mlp(
    d_in: int, width: int, hidden: int, d_out: int, blocks: int = 2, activation: str = "relu"
) -> WeightSpec:
    """Residual network: embed, then x ← x + dense(act(dense(x))) `blocks` times, then read out.

    All blocks write to one stream, so its neurons form one group that many arrays enter. No
    activation acts on them.
    """
    act, scaling = _activation(activation)
    groups = {"in": Group(d_in, False), "stream": Group(width, True, LinearScaling())}
    arrays = {"embed.kernel": ("in", "stream"), "embed.bias": ("stream",)}
    for i in range(1, blocks + 1):
        groups[f"h{i}"] = Group(hidden, True, scaling)
        arrays |= {f"up{i}.kernel": ("stream", f"h{i}"), f"up{i}.bias": (f"h{i}",)}
        arrays |= {f"down{i}.kernel": (f"h{i}", "stream"), f"down{i}.bias": ("stream",)}
    groups["out"] = Group(d_out, False)
    arrays |= {"out.kernel": ("stream", "out"), "out.bias": ("out",)}
    return WeightSpec(groups, arrays, _ResidualMLP(blocks, act))


@dataclasses.dataclass(frozen=True)
class _CNN:
    layers: int
    act: Activation

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]:
        values = {}
        for i in range(1, self.layers + 1):
            x = jax.lax.conv_general_dilated(
                x[None],
                weights[f"conv{i}.kernel"],
                window_strides=(1, 1),
                padding="SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )[0]
            x = values[f"c{i}"] = self.act(x + weights[f"conv{i}.bias"][None, None])
        return values | {"out": _dense(weights, "dense", x.mean((0, 1)))}


def cnn(
    channels_in: int, *channels: int, d_out: int, kernel: int = 3, activation: str = "relu"
) -> WeightSpec:
    """Convolutions over images (height, width, channels), averaged over space, and a read-out."""
    act, scaling = _activation(activation)
    names = ["in", *(f"c{i}" for i in range(1, len(channels) + 1))]
    groups = {"in": Group(channels_in, False)}
    arrays = {}
    for i, width in enumerate(channels, 1):
        groups[names[i]] = Group(width, True, scaling)
        arrays[f"conv{i}.kernel"] = (kernel, kernel, names[i - 1], names[i])
        arrays[f"conv{i}.bias"] = (names[i],)
    groups["out"] = Group(d_out, False)
    arrays |= {"dense.kernel": (names[-1], "out"), "dense.bias": ("out",)}
    return WeightSpec(groups, arrays, _CNN(len(channels), act))
