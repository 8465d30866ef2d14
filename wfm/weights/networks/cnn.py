"""Convolutional networks: averaged over space, and LeNet-5."""

import dataclasses

import jax
from jaxtyping import Array

from wfm.errors import UserError
from wfm.weights.layout import Layout
from wfm.weights.networks.activations import Activation, activation_named
from wfm.weights.networks.layers import conv, dense, max_pool, symmetric
from wfm.weights.networks.layouts import by_rank
from wfm.weights.scaling import PositiveScaling
from wfm.weights.spec import Group, Weights, WeightSpec


@dataclasses.dataclass(frozen=True)
class CNNActivations:
    """The forward pass of `cnn`."""

    layers: int
    act: Activation
    stride: int = 1
    padding: str = "SAME"

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]:
        values = {}
        for i in range(1, self.layers + 1):
            x = self.act(conv(weights, f"conv{i}", x, self.stride, self.padding))
            values[f"c{i}"] = x
        return values | {"out": dense(weights, "dense", x.mean((0, 1)))}

    def torch_layout(self, spec: WeightSpec) -> Layout:
        return by_rank(spec)


def cnn(
    channels_in: int,
    *channels: int,
    d_out: int,
    kernel: int = 3,
    activation: str = "relu",
    stride: int = 1,
    padding: str = "SAME",
) -> WeightSpec:
    """Convolutions over images (height, width, channels), averaged over space, and a read-out.

    `padding`: `"SAME"` or `"VALID"`, as in `jax.lax.conv`. With a `stride` of 2 and images of even
    size, `"SAME"` pads the end alone, which PyTorch does not.
    """
    act, scaling = activation_named(activation)
    names = ["in", *(f"c{i}" for i in range(1, len(channels) + 1))]
    groups = {"in": Group(channels_in, False)}
    arrays = {}
    for i, width in enumerate(channels, 1):
        groups[names[i]] = Group(width, True, scaling)
        arrays[f"conv{i}.kernel"] = (kernel, kernel, names[i - 1], names[i])
        arrays[f"conv{i}.bias"] = (names[i],)
    groups["out"] = Group(d_out, False)
    arrays |= {"dense.kernel": (names[-1], "out"), "dense.bias": ("out",)}
    return WeightSpec(groups, arrays, CNNActivations(len(channels), act, stride, padding))


def small_cnn(
    channels_in: int = 1, d_out: int = 10, width: int = 16, activation: str = "relu"
) -> WeightSpec:
    """The network of the Small CNN Zoo (Unterthiner et al. 2020, section 3): 4,970 weights.

    Three 3×3 convolutions of 16 filters with stride 2 and without padding, the average over space,
    and a read-out. Images have at least 15 pixels on each side.
    """
    return cnn(
        channels_in,
        *(width, width, width),
        d_out=d_out,
        activation=activation,
        stride=2,
        padding="VALID",
    )


@dataclasses.dataclass(frozen=True)
class LeNet5Activations:
    """The forward pass of `lenet5`."""

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]:
        values = {}
        values["c1"] = jax.nn.relu(conv(weights, "conv1", x, 1, symmetric(5)))
        values["c2"] = jax.nn.relu(conv(weights, "conv2", max_pool(values["c1"]), 1, "VALID"))
        x = max_pool(values["c2"])
        flat = x.reshape(-1) @ weights["dense1.kernel"].reshape(x.size, -1)
        x = values["d1"] = jax.nn.relu(flat + weights["dense1.bias"])
        x = values["d2"] = jax.nn.relu(dense(weights, "dense2", x))
        return values | {"out": dense(weights, "dense3", x)}

    def torch_layout(self, spec: WeightSpec) -> Layout:
        return by_rank(spec, flattened=("dense1.kernel",))


def lenet5(
    size: int = 28,
    channels_in: int = 1,
    d_out: int = 10,
    widths: tuple[int, int, int, int] = (6, 16, 120, 84),
) -> WeightSpec:
    """LeNet-5 (LeCun et al. 1998, section II.B) as it is used now, with ReLU and max-pooling.

    Images have `size` pixels on each side. A 5×5 convolution that keeps the size, pooling by 2, a
    5×5 convolution without padding, pooling by 2, and three dense layers; `widths` are those of all
    four hidden layers. The first dense kernel has an axis for each direction of the image that is
    left, (5, 5, "c2", "d1") for 28 pixels, so that its channels follow those of the convolution.
    """
    left = (size // 2 - 4) // 2
    if left < 1:
        raise UserError(f"lenet5 needs images of at least 12 pixels on each side, got {size}")
    names = ("c1", "c2", "d1", "d2")
    relu = PositiveScaling(rectifies=True)
    groups = {"in": Group(channels_in, False)}
    groups |= {n: Group(width, True, relu) for n, width in zip(names, widths, strict=True)}
    groups["out"] = Group(d_out, False)
    arrays = {
        "conv1.kernel": (5, 5, "in", "c1"),
        "conv1.bias": ("c1",),
        "conv2.kernel": (5, 5, "c1", "c2"),
        "conv2.bias": ("c2",),
        "dense1.kernel": (left, left, "c2", "d1"),
        "dense1.bias": ("d1",),
        "dense2.kernel": ("d1", "d2"),
        "dense2.bias": ("d2",),
        "dense3.kernel": ("d2", "out"),
        "dense3.bias": ("out",),
    }
    return WeightSpec(groups, arrays, LeNet5Activations())
