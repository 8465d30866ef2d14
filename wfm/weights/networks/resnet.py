"""Residual networks for small images, with BatchNorm or without."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wfm.errors import UserError
from wfm.weights.layout import Layout
from wfm.weights.networks.batch_norm import LEFT, BatchNorm
from wfm.weights.networks.layers import conv, dense, symmetric
from wfm.weights.networks.layouts import by_rank
from wfm.weights.scaling import LinearScaling, PositiveScaling
from wfm.weights.spec import Axes, Group, Weights, WeightSpec

STAGES = 3
RELU = PositiveScaling(rectifies=True)


class Unit(NamedTuple):
    """A convolution, perhaps with BatchNorm, from one group to another."""

    layer: str
    source: str
    target: str
    kernel: int
    stride: int = 1

    def __call__(self, weights: Weights, x: Array, values: dict[str, Array], norm: bool) -> Array:
        x = conv(weights, self.layer, x, self.stride, symmetric(self.kernel))
        if not norm:
            return x
        values[self.layer] = x
        return BatchNorm(self.layer)(weights, x)


class Block(NamedTuple):
    """Two units beside a shortcut, which is the identity unless it is a unit itself.

    The names are those of its layers, of its inner neurons and of the stream that it writes to.
    """

    first: Unit
    second: Unit
    shortcut: Unit | None

    @property
    def units(self) -> tuple[Unit, ...]:
        """All its convolutions."""
        return self.first, self.second, *([self.shortcut] if self.shortcut else [])


@dataclasses.dataclass(frozen=True)
class ResNetActivations:
    """The forward pass of `resnet`."""

    blocks: int  # in each stage
    batch_norm: bool = True

    @property
    def stem(self) -> Unit:
        """The first convolution."""
        return Unit("stem", "in", "s1", 3)

    def each_block(self) -> Iterator[Block]:
        """The blocks, in the order of computation."""
        for i in range(STAGES * self.blocks):
            stage, name, inner = i // self.blocks + 1, f"block{i + 1}", f"h{i + 1}"
            new = i % self.blocks == 0 and stage > 1
            source, stride = (f"s{stage - 1}", 2) if new else (f"s{stage}", 1)
            yield Block(
                Unit(f"{name}.conv1", source, inner, 3, stride),
                Unit(f"{name}.conv2", inner, f"s{stage}", 3),
                Unit(f"{name}.shortcut", source, f"s{stage}", 1, stride) if new else None,
            )

    @property
    def units(self) -> tuple[Unit, ...]:
        """All convolutions."""
        return self.stem, *(unit for block in self.each_block() for unit in block.units)

    @property
    def norms(self) -> tuple[BatchNorm, ...]:
        return tuple(BatchNorm(unit.layer) for unit in self.units) if self.batch_norm else ()

    def folded(self) -> "ResNetActivations":
        return dataclasses.replace(self, batch_norm=False)

    def __call__(self, weights: Weights, x: Float[Array, "h w c"]) -> dict[str, Array]:
        values: dict[str, Array] = {}
        streams: dict[str, list[Array]] = {}
        act = lambda unit, x: unit(weights, x, values, self.batch_norm)  # noqa: E731
        x = jax.nn.relu(act(self.stem, x))
        streams[self.stem.target] = [x]
        for block in self.each_block():
            inner = values[block.first.target] = jax.nn.relu(act(block.first, x))
            beside = act(block.shortcut, x) if block.shortcut else x
            x = jax.nn.relu(act(block.second, inner) + beside)
            streams.setdefault(block.second.target, []).append(x)
        values |= {stream: jnp.stack(depths) for stream, depths in streams.items()}
        return values | {"out": dense(weights, "out", x.mean((0, 1)))}

    def torch_layout(self, spec: WeightSpec) -> Layout:
        """With the names of torchvision: `conv1`, `bn1`, `layer1.0.conv1`, …, `fc`."""
        names = {"stem": "conv1", "stem.norm": "bn1", "out": "fc"}
        for i, _ in enumerate(self.each_block()):
            ours = f"block{i + 1}"
            theirs = f"layer{i // self.blocks + 1}.{i % self.blocks}"
            for number in (1, 2):
                names[f"{ours}.conv{number}"] = f"{theirs}.conv{number}"
                names[f"{ours}.conv{number}.norm"] = f"{theirs}.bn{number}"
            names[f"{ours}.shortcut"] = f"{theirs}.downsample.0"
            names[f"{ours}.shortcut.norm"] = f"{theirs}.downsample.1"
        return by_rank(spec, names)


def resnet(
    depth: int = 8,
    width: int = 16,
    channels_in: int = 3,
    d_out: int = 10,
    batch_norm: bool = True,
) -> WeightSpec:
    """Residual network for small images (He et al. 2016, section 4.2), at evaluation.

    A 3×3 convolution, then three stages of (depth - 2)/6 blocks of two 3×3 convolutions, with
    `width`, 2·`width` and 4·`width` channels; the first block of a later stage has stride 2 and a
    1×1 convolution as its shortcut. Then the average over space, and a read-out. Every convolution
    has BatchNorm, with the means and variances in arrays of their own, or biases if `batch_norm` is
    off: `fold_batch_norm` makes that network from the other.

    All blocks of a stage write to one stream, the groups `s1`, `s2` and `s3`. A ReLU follows each
    addition, so a positive factor of each neuron is free. With BatchNorm, each convolution has a
    group of linear neurons before it, called as the layer is; those that write to one stream have
    one order.
    """
    if depth < 8 or (depth - 2) % 6:
        raise UserError(f"the depth of a resnet is 6n + 2, as 8, 14 or 20; got {depth}")
    activations = ResNetActivations((depth - 2) // 6, batch_norm)
    sizes = {f"s{stage}": width * 2 ** (stage - 1) for stage in range(1, STAGES + 1)}
    sizes |= {block.first.target: sizes[block.second.target] for block in activations.each_block()}
    groups, arrays, powers = {"in": Group(channels_in, False)}, {}, {}
    for unit in activations.units:
        size, target = sizes[unit.target], groups.get(unit.target)
        if batch_norm:  # the first convolution into a group stands for the order of all
            order = target.order if target else None
            groups[unit.layer] = Group(size, True, LinearScaling(), order)
            powers |= BatchNorm(unit.layer).powers(unit.layer)
        if not target:
            groups[unit.target] = Group(size, True, RELU, unit.layer if batch_norm else None)
        arrays |= _arrays(unit, batch_norm)
    groups["out"] = Group(d_out, False)
    arrays |= {"out.kernel": (f"s{STAGES}", "out"), "out.bias": ("out",)}
    return WeightSpec(groups, arrays, activations, powers, (LEFT,) if batch_norm else ())


def _arrays(unit: Unit, batch_norm: bool) -> dict[str, Axes]:
    """The axes of the arrays of a unit."""
    before = unit.layer if batch_norm else unit.target
    kernel: dict[str, Axes] = {
        f"{unit.layer}.kernel": (unit.kernel, unit.kernel, unit.source, before)
    }
    if batch_norm:
        return kernel | BatchNorm(unit.layer).arrays(before, unit.target)
    return kernel | {f"{unit.layer}.bias": (unit.target,)}
