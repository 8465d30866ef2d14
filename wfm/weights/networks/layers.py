"""Layers that networks are composed of: for one input, neurons on the last axis."""

import jax
from jaxtyping import Array, Float

from wfm.weights.spec import Weights

EPS = 1e-5  # added to variances by LayerNorm and BatchNorm, as in PyTorch

Padding = str | tuple[tuple[int, int], tuple[int, int]]


def last_axis(vector: Float[Array, " n"], like: Float[Array, "... n"]) -> Float[Array, "..."]:
    """One number for each neuron, shaped to be added to or multiplied with `like`."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def add_bias(weights: Weights, layer: str, x: Float[Array, "... n"]) -> Float[Array, "... n"]:
    """`x` plus the bias of the layer, if it has one."""
    bias = weights.get(f"{layer}.bias")
    return x if bias is None else x + last_axis(bias, x)


def dense(weights: Weights, layer: str, x: Float[Array, "... m"]) -> Float[Array, "... n"]:
    """A dense layer, with or without bias."""
    return add_bias(weights, layer, x @ weights[f"{layer}.kernel"])


def conv(
    weights: Weights, layer: str, x: Float[Array, "h w m"], stride: int, padding: Padding
) -> Float[Array, "_ _ n"]:
    """A convolution with kernel (height, width, from, to), with or without bias."""
    x = jax.lax.conv_general_dilated(
        x[None],
        weights[f"{layer}.kernel"],
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]
    return add_bias(weights, layer, x)


def symmetric(kernel: int) -> Padding:
    """Padding of both sides alike, so that a kernel of odd size keeps the size of an image."""
    pad = (kernel // 2, kernel // 2)
    return (pad, pad)


def max_pool(x: Float[Array, "h w n"], size: int = 2) -> Float[Array, "_ _ n"]:
    """The largest value in each square of `size` pixels; a rest at the end is dropped."""
    window = (size, size, 1)
    return jax.lax.reduce_window(x, -float("inf"), jax.lax.max, window, window, "VALID")


def layer_norm(weights: Weights, name: str, x: Float[Array, "... n"]) -> Float[Array, "... n"]:
    """LayerNorm over the neurons (Ba, Kiros & Hinton 2016), with a gain and a shift of each."""
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + EPS)
    return x * last_axis(weights[f"{name}.gain"], x) + last_axis(weights[f"{name}.shift"], x)
