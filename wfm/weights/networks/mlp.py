"""Fully connected networks, and residual ones."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array

from wfm.errors import UserError
from wfm.weights.layout import Layout
from wfm.weights.networks.activations import Activation, activation_named
from wfm.weights.networks.layers import dense, layer_norm
from wfm.weights.networks.layouts import by_rank
from wfm.weights.scaling import NO_SCALING, LinearScaling, Scaling
from wfm.weights.spec import Group, Weights, WeightSpec

LAYER_NORM_LEFT = (
    "a number added to all neurons of {0!r} alike, which LayerNorm removes, and a factor of all of "
    "them, which it removes nearly"
)


@dataclasses.dataclass(frozen=True)
class MLPActivations:
    """The forward pass of `mlp`: dense layers, each but the last with an activation."""

    layers: int
    act: Activation
    layer_norm: bool = False

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]:
        values = {}
        for i in range(1, self.layers):
            x = dense(weights, f"dense{i}", x)
            if self.layer_norm:
                values[f"h{i}"] = x
                x = values[f"n{i}"] = self.act(layer_norm(weights, f"norm{i}", x))
            else:
                x = values[f"h{i}"] = self.act(x)
        return values | {"out": dense(weights, f"dense{self.layers}", x)}

    def torch_layout(self, spec: WeightSpec) -> Layout:
        return by_rank(spec)


def mlp(
    *widths: int, activation: str = "relu", bias: bool = True, layer_norm: bool = False
) -> WeightSpec:
    """Fully connected network, as in `mlp(30, 16, 16, 2)`: inputs, hidden layers, outputs.

    Groups `in`, `h1`, …, `out`; arrays `dense1.kernel` (d₀, d₁), `dense1.bias` (d₁,), …. Without
    `bias` the kernels are alone.

    With `layer_norm` every hidden layer is normalised before its activation (Ba, Kiros & Hinton
    2016): `h1` are then the neurons before that, and have no scale of their own. The gain
    `norm1.gain` (d₁,) leads from `h1` to the group `n1` of the same order, and the shift
    `norm1.shift` (d₁,) enters `n1`.
    """
    act, scaling = activation_named(activation)
    activations = MLPActivations(len(widths) - 1, act, layer_norm)
    return layered(widths, activations, scaling, bias)


def layered(
    widths: tuple[int, ...],
    activations: MLPActivations,
    scaling: Scaling,
    bias: bool = True,
    left: tuple[str, ...] = (),
) -> WeightSpec:
    """The spec of dense layers with these `activations`, whose rescalings are `scaling`.

    `left` says what else keeps the function; `{0!r}` in it stands for each group of hidden neurons.
    """
    if len(widths) < 2:
        raise UserError(f"an mlp needs at least input and output widths, got {widths}")
    groups, arrays, source = {"in": Group(widths[0], False)}, {}, "in"
    n_hidden = len(widths) - 2
    for i, width in enumerate(widths[1:-1], 1):
        arrays |= _dense(f"dense{i}", source, source := f"h{i}", bias)
        groups[source] = Group(width, True, NO_SCALING if activations.layer_norm else scaling)
        if activations.layer_norm:
            arrays |= {f"norm{i}.gain": ((f"h{i}", f"n{i}"),), f"norm{i}.shift": (f"n{i}",)}
            source = f"n{i}"
            groups[source] = Group(width, True, scaling, order=f"h{i}")
    groups["out"] = Group(widths[-1], False)
    arrays |= _dense(f"dense{n_hidden + 1}", source, "out", bias)
    left = (*left, *((LAYER_NORM_LEFT,) if activations.layer_norm else ()))
    said = tuple(text.format(f"h{i}") for i in range(1, n_hidden + 1) for text in left)
    return WeightSpec(groups, arrays, activations, left=said)


def _dense(layer: str, source: str, target: str, bias: bool) -> dict[str, tuple[str, ...]]:
    kernel = {f"{layer}.kernel": (source, target)}
    return kernel | {f"{layer}.bias": (target,)} if bias else kernel


@dataclasses.dataclass(frozen=True)
class ResidualMLPActivations:
    """The forward pass of `residual_mlp`."""

    blocks: int
    act: Activation

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]:
        x = dense(weights, "embed", x)
        values, stream = {}, [x]
        for i in range(1, self.blocks + 1):
            hidden = values[f"h{i}"] = self.act(dense(weights, f"up{i}", x))
            x = x + dense(weights, f"down{i}", hidden)
            stream.append(x)
        return values | {"stream": jnp.stack(stream), "out": dense(weights, "out", x)}

    def torch_layout(self, spec: WeightSpec) -> Layout:
        return by_rank(spec)


def residual_mlp(
    d_in: int, width: int, hidden: int, d_out: int, blocks: int = 2, activation: str = "relu"
) -> WeightSpec:
    """Residual network: embed, then x ← x + dense(act(dense(x))) `blocks` times, then read out.

    All blocks write to one stream, so its neurons form one group that many arrays enter. No
    activation acts on them.
    """
    act, scaling = activation_named(activation)
    groups = {"in": Group(d_in, False), "stream": Group(width, True, LinearScaling())}
    arrays = {"embed.kernel": ("in", "stream"), "embed.bias": ("stream",)}
    for i in range(1, blocks + 1):
        groups[f"h{i}"] = Group(hidden, True, scaling)
        arrays |= {f"up{i}.kernel": ("stream", f"h{i}"), f"up{i}.bias": (f"h{i}",)}
        arrays |= {f"down{i}.kernel": (f"h{i}", "stream"), f"down{i}.bias": ("stream",)}
    groups["out"] = Group(d_out, False)
    arrays |= {"out.kernel": ("stream", "out"), "out.bias": ("out",)}
    return WeightSpec(groups, arrays, ResidualMLPActivations(blocks, act))
