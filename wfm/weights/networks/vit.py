"""A small vision transformer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wfm.errors import UserError
from wfm.weights.layout import Layout
from wfm.weights.networks.attention import Attention
from wfm.weights.networks.layers import add_bias, conv, dense, layer_norm
from wfm.weights.networks.layouts import by_rank, stored
from wfm.weights.scaling import LinearScaling
from wfm.weights.spec import Axes, Group, Weights, WeightSpec

gelu = functools.partial(jax.nn.gelu, approximate=False)  # the exact one, as in PyTorch

LEFT = (
    "any invertible matrix between the queries and the keys of each head, and between its values "
    "and its outputs (`balance_heads` chooses one)",
    "the biases of keys, which softmax does not see, and what biases of values and of outputs, or "
    "shifts of norms and the biases after them, take from each other",
    "a number added to all neurons of 'stream' alike, as only LayerNorm reads them; with gains "
    "moved into the kernels after them, any orthogonal map of 'stream' that keeps the vector of "
    "ones",
)


@dataclasses.dataclass(frozen=True)
class ViTActivations:
    """The forward pass of `vit`."""

    patch: int
    blocks: int

    def __call__(self, weights: Weights, x: Float[Array, "h w c"]) -> dict[str, Array]:
        patches = conv(weights, "patch", x, self.patch, "VALID")
        patches = patches.reshape(-1, patches.shape[-1])
        x = jnp.concatenate([weights["class_token"][None], patches]) + weights["positions"]
        values, stream = {}, [x]
        for i in range(1, self.blocks + 1):
            name = f"block{i}"
            normed = layer_norm(weights, f"{name}.norm1", x)
            probabilities, heads = attention(weights, name, normed)
            x = x + _read_heads(weights, f"{name}.output", heads)
            stream.append(x)
            normed2 = layer_norm(weights, f"{name}.norm2", x)
            hidden = gelu(dense(weights, f"{name}.up", normed2))
            x = x + dense(weights, f"{name}.down", hidden)
            stream.append(x)
            values |= {
                f"n{i}.1": normed,
                f"heads{i}": jnp.moveaxis(probabilities, 0, -1),
                f"values{i}": jnp.swapaxes(heads, 1, 2),
                f"n{i}.2": normed2,
                f"h{i}": hidden,
            }
        normed = layer_norm(weights, "norm", x)
        values |= {"stream": jnp.stack(stream), "n": normed}
        return values | {"out": dense(weights, "out", normed[0])}

    @property
    def attentions(self) -> tuple[Attention, ...]:
        layers = ("query", "key", "value", "output")
        return tuple(
            Attention(*(f"block{i}.{layer}" for layer in layers)) for i in range(1, self.blocks + 1)
        )

    def torch_layout(self, spec: WeightSpec) -> Layout:
        """Blocks as in `torch.nn.TransformerEncoder`: `layers.0.self_attn.in_proj_weight`, ….

        The patches are a `Conv2d` named `patch`; `class_token` is (1, 1, width), and `positions`
        is (1, tokens, width).
        """
        width = spec.groups["stream"].size
        layout: Layout = {
            "class_token": stored("class_token", (width,), (0,), (1, 1, width)),
            "positions": stored("positions", s := spec.shape("positions"), (0, 1), (1, *s)),
        }
        names = {}
        for i in range(self.blocks):
            ours, theirs = f"block{i + 1}", f"layers.{i}"
            layout |= _stored_attention(spec, ours, f"{theirs}.self_attn")
            layers = {"norm1": "norm1", "norm2": "norm2", "up": "linear1", "down": "linear2"}
            names |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in layers.items()}
            names[f"{ours}.output"] = f"{theirs}.self_attn.out_proj"
        rest = {name: axes for name, axes in spec.arrays.items() if name not in layout}
        powers = {name: p for name, p in spec.powers.items() if name in rest}
        rest = dataclasses.replace(spec, arrays=rest, powers=powers)
        layout = {**layout, **by_rank(rest, names)}
        return {name: layout[name] for name in spec.arrays}


def attention(
    weights: Weights, block: str, x: Float[Array, "tokens n"]
) -> tuple[Float[Array, "heads tokens tokens"], Float[Array, "tokens heads d"]]:
    """For each head to what extent tokens attend to which, and the values that they get so."""
    q, k, v = (_heads(weights, f"{block}.{which}", x) for which in ("query", "key", "value"))
    scores = jnp.einsum("thd,shd->hts", q, k) * q.shape[-1] ** -0.5
    probabilities = jax.nn.softmax(scores)
    return probabilities, jnp.einsum("hts,shd->thd", probabilities, v)


def _heads(weights: Weights, layer: str, x: Array) -> Float[Array, "tokens heads d"]:
    values = jnp.einsum("tn,nhd->thd", x, weights[f"{layer}.kernel"])
    return values + weights[f"{layer}.bias"][None]


def _read_heads(weights: Weights, layer: str, heads: Array) -> Float[Array, "tokens n"]:
    return add_bias(weights, layer, jnp.einsum("thd,hdn->tn", heads, weights[f"{layer}.kernel"]))


def _stored_attention(spec: WeightSpec, block: str, module: str) -> Layout:
    """The arrays of `torch.nn.MultiheadAttention`, where queries, keys and values are joined."""
    width, heads, d = spec.shape(f"{block}.query.kernel")
    layout = {}
    for number, which in enumerate(("query", "key", "value")):
        part = (number, 3)
        layout[f"{block}.{which}.kernel"] = stored(
            f"{module}.in_proj_weight", (width, heads, d), (2, 0, 1), (width, width), part
        )
        layout[f"{block}.{which}.bias"] = stored(
            f"{module}.in_proj_bias", (heads, d), (0, 1), (width,), part
        )
    layout[f"{block}.output.kernel"] = stored(
        f"{module}.out_proj.weight", (heads, d, width), (1, 2, 0), (width, width)
    )
    return layout


def vit(
    size: int = 28,
    patch: int = 7,
    width: int = 32,
    heads: int = 4,
    blocks: int = 2,
    hidden: int = 64,
    channels_in: int = 1,
    d_out: int = 10,
) -> WeightSpec:
    """A small vision transformer (Dosovitskiy et al. 2021), with LayerNorm before its layers.

    Images of `size` pixels on each side are cut into squares of `patch` pixels, which enter the
    group `stream` by a dense map; a class token comes first, and learned positions are added. Each
    of the `blocks` adds attention with `heads` heads of width/heads units, and a GELU layer of
    `hidden` neurons. The outputs are read from the class token after a last LayerNorm.

    The neurons behind the norms (`n1.1`, `n1.2`, …, and `n`) have the order of `stream` and are
    linear: gains and shifts may be rescaled against the kernels after them. Heads have one order
    and two rescalings: queries against keys (`heads1`), and values against outputs (`values1`). The
    units of a head are plain axes; `left` says what more is free.
    """
    if width % heads:
        raise UserError(f"{heads} heads do not divide the width {width}; choose another number")
    if size % patch:
        raise UserError(f"patches of {patch} pixels do not divide images of {size} pixels")
    tokens, d = (size // patch) ** 2 + 1, width // heads
    linear = LinearScaling()
    groups = {"in": Group(channels_in, False), "stream": Group(width)}
    arrays: dict[str, Axes] = {
        "patch.kernel": (patch, patch, "in", "stream"),
        "patch.bias": ("stream",),
        "class_token": ("stream",),
        "positions": (tokens, "stream"),
    }
    powers = {}
    for i in range(1, blocks + 1):
        name, scores, values = f"block{i}", f"heads{i}", f"values{i}"
        groups[f"n{i}.1"] = Group(width, True, linear, "stream")
        groups[scores] = Group(heads, True, linear)
        groups[values] = Group(heads, True, linear, scores)
        groups[f"n{i}.2"] = Group(width, True, linear, "stream")
        groups[f"h{i}"] = Group(hidden)
        arrays |= _norm(f"{name}.norm1", f"n{i}.1")
        for which, target in (("query", scores), ("key", scores), ("value", values)):
            arrays[f"{name}.{which}.kernel"] = (f"n{i}.1", target, d)
            arrays[f"{name}.{which}.bias"] = (target, d)
        arrays[f"{name}.output.kernel"] = (values, d, "stream")
        arrays[f"{name}.output.bias"] = ("stream",)
        arrays |= _norm(f"{name}.norm2", f"n{i}.2")
        arrays |= {f"{name}.up.kernel": (f"n{i}.2", f"h{i}"), f"{name}.up.bias": (f"h{i}",)}
        arrays |= {f"{name}.down.kernel": (f"h{i}", "stream"), f"{name}.down.bias": ("stream",)}
        powers |= {f"{name}.key.{part}": {scores: -1} for part in ("kernel", "bias")}
    groups |= {"n": Group(width, True, linear, "stream"), "out": Group(d_out, False)}
    arrays |= _norm("norm", "n") | {"out.kernel": ("n", "out"), "out.bias": ("out",)}
    return WeightSpec(groups, arrays, ViTActivations(patch, blocks), powers, LEFT)


def _norm(name: str, group: str) -> dict[str, Axes]:
    return {f"{name}.gain": (("stream", group),), f"{name}.shift": (group,)}
