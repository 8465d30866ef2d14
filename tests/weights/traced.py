"""Functions to trace, each a trap or a rule, with the labels that must be found."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import relu

from wfm.weights import (
    LinearScaling,
    NoScaling,
    PositiveScaling,
    SignScaling,
    WeightSpec,
)

KINDS = {NoScaling: "-", SignScaling: "±", PositiveScaling: "+", LinearScaling: "*"}


class Case(NamedTuple):
    """A function of weights of these shapes, and what is to be found.

    `labels`: the arrays with their axes, `·` between groups of one axis; `groups`: the factors of
    each (`-` none, `±` a sign, `+` positive, `*` any but 0; `r` rectified) and `!` for a fixed
    order. `complete`: whether these are all continuous rescalings along axes. Others are inside of
    other neurons, one factor for all neurons, or of a constant beside linear ones. `canonical`:
    whether the last layer has a scale. `logits`: whether outputs are sums of what enters them.
    """

    apply: Callable[[Any, Any], Any]
    shapes: dict[str, tuple[int, ...]]
    x: tuple[int, ...]
    labels: str
    groups: str
    powers: str = ""
    complete: bool = True
    canonical: bool = True
    logits: bool = True
    tokens: bool = False

    def weights(self, seed: int = 0, dtype: Any = np.float32) -> dict[str, Any]:
        """Random weights; those whose name starts with `v` are variances, and positive."""
        rng = np.random.default_rng(seed)
        drawn = {
            n: rng.normal(size=s) / max(1, s[0] if s else 1) ** 0.5 for n, s in self.shapes.items()
        }
        drawn = {n: np.abs(a) + 0.1 if n.startswith("v") else a for n, a in drawn.items()}
        return {n: jnp.asarray(a, dtype) for n, a in drawn.items()}

    def inputs(self, n: int = 6, dtype: Any = np.float32) -> Any:
        rng = np.random.default_rng(1)
        if self.tokens:
            return jnp.asarray(rng.integers(0, 10, size=(n, *self.x)))
        return jnp.asarray(rng.normal(scale=3, size=(n, *self.x)), dtype)


def say(spec: WeightSpec) -> tuple[str, str, str]:
    """The labels of a spec, as in `Case`."""
    axis = lambda a: "·".join(a) if isinstance(a, tuple) else str(a)  # noqa: E731
    arrays = [f"{n}({' '.join(map(axis, axes))})" for n, axes in spec.arrays.items()]
    groups = [
        name
        + KINDS[type(group.scaling)]
        + ("r" if getattr(group.scaling, "rectifies", False) else "")
        + ("" if group.permutable else "!")
        for name, group in spec.groups.items()
        if name not in ("in", "in2", "out")
    ]
    powers = [f"{n}.{g}^{p}" for n, by in spec.powers.items() for g, p in by.items()]
    return "  ".join(arrays), " ".join(groups), " ".join(powers)


def conv(x, kernel, groups=1, stride=1, dilation=1):
    return jax.lax.conv_general_dilated(
        x[None],
        kernel,
        (stride, stride),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )[0]


def normed(x, axis=-1, eps=1e-5):
    centred = x - x.mean(axis, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axis, keepdims=True) + eps)


def dense(act):
    return lambda p, x: act(x @ p["a"] + p["ab"]) @ p["o"] + p["ob"]


MLP = {"a": (5, 8), "ab": (8,), "o": (8, 3), "ob": (3,)}
TWO = {"a": (5, 8), "o": (8, 3)}
MLP_LABELS = "a(in a)  ab(a)  o(a out)  ob(out)"
TWO_LABELS = "a(in a)  o(a out)"


def activation(act, groups, powers=""):
    return Case(dense(act), MLP, (5,), MLP_LABELS, groups, powers)


ACTIVATIONS = {
    "relu": activation(relu, "a+r"),
    "leaky": activation(lambda z: jnp.where(z > 0, z, 0.1 * z), "a+"),
    "tanh": activation(jnp.tanh, "a±"),
    "sine": activation(lambda z: jnp.sin(30 * z), "a±"),
    "cosine": activation(jnp.cos, "a-"),
    "gelu": activation(jax.nn.gelu, "a-"),
    "silu": activation(jax.nn.silu, "a-"),
    "softplus": activation(jax.nn.softplus, "a-"),
    "elu": activation(jax.nn.elu, "a-"),
    "relu6": activation(jax.nn.relu6, "a-")._replace(complete=False),
    "hard tanh": activation(lambda z: jnp.clip(z, -1, 1), "a-"),
    "absolute": activation(jnp.abs, "a+"),
    "square": activation(jnp.square, "a*", "o.a^-2"),
    "cube": activation(lambda z: z**3, "a*", "o.a^-3"),
    "squared relu": activation(lambda z: relu(z) ** 2, "a+r", "o.a^-2"),
    "linear": activation(lambda z: z, "a*")._replace(complete=False),
    "a constant is added": activation(lambda z: relu(z + 1.0), "a-")._replace(complete=False),
    "jit": Case(lambda p, x: jax.jit(dense(relu))(p, x), MLP, (5,), MLP_LABELS, "a+r"),
    "remat": Case(lambda p, x: jax.checkpoint(dense(relu))(p, x), MLP, (5,), MLP_LABELS, "a+r"),
    "vmap": Case(
        lambda p, x: jax.vmap(lambda row: dense(relu)(p, row))(x).mean(0),
        MLP,
        (4, 5),
        MLP_LABELS,
        "a+r",
    ),
}


def of_scan(p, x):
    step = lambda h, w: (h + relu(h @ w[0]) @ w[1], None)  # noqa: E731
    return jax.lax.scan(step, x @ p["e"], (p["u"], p["d"]))[0] @ p["r"]


def of_loop(p, x):
    h = x @ p["e"]
    for i in range(2):
        h = h + relu(h @ p["u"][i]) @ p["d"][i]
    return h @ p["r"]


LAYERS = {"e": (5, 6), "u": (2, 6, 8), "d": (2, 8, 6), "r": (6, 3)}
LAYERS_LABELS = "e(in e)  u.0(e u)  d.0(u e)  u.1(e u.1)  d.1(u.1 e)  r(e out)"


def two(apply, groups, labels=TWO_LABELS, **options):
    return Case(apply, TWO, (5,), labels, groups, **options)


DENSE = {
    "torch's layout": Case(
        lambda p, x: p["o"] @ relu(p["a"] @ x), {"a": (8, 5), "o": (3, 8)}, (5,), TWO_LABELS, "a+r"
    ),
    "one neuron": activation(relu, "a+r")._replace(
        shapes={"a": (5, 1), "ab": (1,), "o": (1, 3), "ob": (3,)}
    ),
    "einsum": two(
        lambda p, x: jnp.einsum("h,ho->o", relu(jnp.einsum("i,ih->h", x, p["a"])), p["o"]), "a+r"
    ),
    "sums of products": two(
        lambda p, x: (relu((x[:, None] * p["a"]).sum(0))[:, None] * p["o"]).sum(0), "a+r"
    ),
    "image as a row": two(lambda p, x: relu(x.reshape(-1) @ p["a"]) @ p["o"], "a+r")._replace(
        shapes={"a": (16, 8), "o": (8, 3)}, x=(4, 4)
    ),
    "slope of each neuron": Case(
        lambda p, x: (lambda z: jnp.where(z > 0, z, p["s"] * z))(x @ p["a"]) @ p["o"],
        {"a": (5, 8), "s": (8,), "o": (8, 3)},
        (5,),
        "a(in a)  s(a)  o(a out)",
        "a+",
        "s.a^0",
    ),
    "gated": Case(
        lambda p, x: (relu(x @ p["a"]) * (x @ p["b"])) @ p["o"],
        {"a": (5, 8), "b": (5, 8), "o": (8, 3)},
        (5,),
        "a(in a)  b(in b)  o(a·b out)",
        "a+ b*",
    ),
    "halves of one layer": Case(
        lambda p, x: (lambda u, v: relu(u) * v)(*jnp.split(x @ p["a"], 2, -1)) @ p["o"],
        {"a": (5, 16), "o": (8, 3)},
        (5,),
        "a(in 2 a)  o(a out)",
        "a+",
        "o.a^-2",
        complete=False,
    ),
    "gated linear unit": Case(
        lambda p, x: (lambda z: z[:8] * jax.nn.sigmoid(z[8:]))(x @ p["a"] + p["ab"]) @ p["o"],
        {"a": (5, 16), "ab": (16,), "o": (8, 3)},
        (5,),
        "a(in 2 a)  ab(2 a)  o(a out)",
        "a-",
        complete=False,
    ),
    "both signs side by side": Case(
        lambda p, x: (lambda z: jnp.concatenate([relu(z), relu(-z)]))(x @ p["a"]) @ p["o"],
        {"a": (5, 8), "o": (16, 3)},
        (5,),
        "a(in a)  o(2 a out)",
        "a+r",
    ),
    "unequal layers side by side": Case(
        lambda p, x: jnp.concatenate([relu(x @ p["a"]), relu(x @ p["b"])]) @ p["o"],
        {"a": (5, 4), "b": (5, 6), "o": (10, 3)},
        (5,),
        "a(in a)  b(in b)  o(o out)",
        "a-! b-! o-!",
        complete=False,
    ),
    "low rank": Case(
        lambda p, x: relu(x @ (p["u"] @ p["w"])) @ p["o"],
        {"u": (5, 2), "w": (2, 8), "o": (8, 3)},
        (5,),
        "u(in u)  w(u w)  o(w out)",
        "u* w+r",
    ),
    "weights in two layers": Case(
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["a"]) @ p["h"]) @ p["h"] @ p["o"],
        {"a": (5, 8), "h": (8, 8), "o": (8, 3)},
        (5,),
        "a(in a)  h(a a)  o(a out)",
        "a±",
    ),
    "autoencoder with one kernel": Case(
        lambda p, x: relu(x @ p["a"] + p["b"]) @ p["a"].T,
        {"a": (5, 8), "b": (8,)},
        (5,),
        "a(in·out a)  b(a)",
        "a-",
        canonical=False,
    ),
    "scaled inputs": Case(
        lambda p, x: relu((x * p["s"]) @ p["a"]) @ p["o"],
        {"s": (5,), "a": (5, 8), "o": (8, 3)},
        (5,),
        "s(in·s)  a(s a)  o(a out)",
        "s*! a+r",
    ),
    "one bias for all": Case(
        lambda p, x: relu(x @ p["a"] + p["s"]) @ p["o"],
        {"a": (5, 8), "s": (), "o": (8, 3)},
        (5,),
        "a(in a)  s()  o(a out)",
        "a-",
    ),
    "bilinear": Case(
        lambda p, x: jnp.einsum("i,ihj,j->h", x, p["t"], relu(x @ p["a"])) @ p["o"],
        {"a": (5, 6), "t": (5, 8, 6), "o": (8, 3)},
        (5,),
        "a(in a)  t(in a t)  o(t out)",
        "a+ t*",
    ),
    "unused array": Case(
        lambda p, x: relu(x @ p["a"]) @ p["o"],
        TWO | {"z": (4,)},
        (5,),
        "a(in a)  o(a out)  z(4)",
        "a+r",
        complete=False,
    ),
    "scan over layers": Case(
        of_scan,
        LAYERS,
        (5,),
        LAYERS_LABELS,
        "e* u+r u.1+r",
    ),
    "stacked layers in a loop": Case(
        of_loop,
        LAYERS,
        (5,),
        LAYERS_LABELS,
        "e* u+r u.1+r",
    ),
    "residual stream of the inputs": Case(
        lambda p, x: x + relu(x @ p["a"]) @ p["b"],
        {"a": (5, 8), "b": (8, 5)},
        (5,),
        "a(in a)  b(a out)",
        "a+r",
        logits=False,
    ),
    "probabilities": two(
        lambda p, x: jax.nn.log_softmax(relu(x @ p["a"]) @ p["o"]), "a+r", logits=False
    ),
    # Traps: the order of neurons matters.
    "a constant varies": two(
        lambda p, x: (relu(x @ p["a"]) * jnp.arange(1.0, 9.0)) @ p["o"], "a+r!"
    ),
    "reversed": two(
        lambda p, x: relu(x @ p["a"])[::-1] @ p["o"], "a-! o-!", "a(in a)  o(o out)"
    )._replace(complete=False),
    "accumulated": two(
        lambda p, x: jnp.cumsum(relu(x @ p["a"])) @ p["o"], "a-! o-!", "a(in a)  o(o out)"
    )._replace(complete=False),
    "sorted": two(
        lambda p, x: jnp.sort(x @ p["a"]) @ p["o"], "a-! o-!", "a(in a)  o(o out)"
    )._replace(complete=False),
    "taken by place": two(
        lambda p, x: relu(x @ p["a"])[jnp.array([1, 0, 3, 2, 5, 4, 7, 6])] @ p["o"],
        "a-! o-!",
        "a(in a)  o(o out)",
    )._replace(complete=False),
    "a choice by the input": two(
        lambda p, x: (
            jax.lax.cond(x[0] > 0, lambda h: h, lambda h: 2 * h, relu(x @ p["a"])) @ p["o"]
        ),
        "a-! o-!",
        "a(in a)  o(o out)",
    )._replace(complete=False),
    "place of the largest": two(
        lambda p, x: relu(x @ p["a"]) @ p["o"] + jnp.argmax(x @ p["a"]), "a-!", logits=False
    )._replace(complete=False),
    "softmax of neurons": two(lambda p, x: jax.nn.softmax(x @ p["a"]) @ p["o"], "a-"),
    "largest of two": Case(
        lambda p, x: (x @ p["a"]).reshape(4, 2).max(-1) @ p["o"],
        {"a": (5, 8), "o": (4, 3)},
        (5,),
        "a(in a 2)  o(a out)",
        "a+",
    ),
}

BN = {"a": (5, 8), "m": (8,), "g": (8,), "v": (8,), "b": (8,), "o": (8, 3)}
BN_LABELS = "a(in a)  m(a)  {}  g(a·g)  b(g)  o(g out)"
NORMS = {
    "layer norm": Case(
        lambda p, x: (normed(relu(x @ p["a"])) * p["g"] + p["b"]) @ p["o"],
        {"a": (5, 8), "g": (8,), "b": (8,), "o": (8, 3)},
        (5,),
        "a(in a)  g(a·g)  b(g)  o(g out)",
        "a- g*",
    )._replace(complete=False),
    "layer norm without gain": two(lambda p, x: normed(x @ p["a"]) @ p["o"], "a-"),
    "root mean square": Case(
        lambda p, x: (
            (lambda h: h * jax.lax.rsqrt((h**2).mean() + 1e-3) * p["g"])(x @ p["a"]) @ p["o"]
        ),
        {"a": (5, 8), "g": (8,), "o": (8, 3)},
        (5,),
        "a(in a)  g(a·g)  o(g out)",
        "a± g*",
    ),
    "batch norm": Case(
        lambda p, x: (
            relu((x @ p["a"] - p["m"]) * (p["g"] * jax.lax.rsqrt(p["v"] + 1e-2)) + p["b"]) @ p["o"]
        ),
        BN,
        (5,),
        BN_LABELS.format("v(a)"),
        "a* g+r",
        "v.a^0",
    )._replace(complete=False),
    "batch norm, exact": Case(
        lambda p, x: relu((x @ p["a"] - p["m"]) / jnp.sqrt(p["v"]) * p["g"] + p["b"]) @ p["o"],
        BN,
        (5,),
        BN_LABELS.format("v(v)"),
        "a* v- g+r",
        complete=False,  # a variance and the root of a gain: no label says it
    ),
    "weight norm": Case(
        lambda p, x: relu(x @ (p["w"] * (p["g"] / jnp.linalg.norm(p["w"], axis=0))[None])) @ p["o"],
        {"w": (5, 8), "g": (8,), "o": (8, 3)},
        (5,),
        "w(in w)  g(g)  o(g out)",
        "w+r g+r",
    ),
    "group norm": Case(
        lambda p, x: relu(normed((x @ p["a"]).reshape(4, 2)).reshape(-1) * p["g"]) @ p["o"],
        {"a": (5, 8), "g": (8,), "o": (8, 3)},
        (5,),
        "a(in a 2)  g(g 2)  o(g 2 out)",
        "a- g+r",
        complete=False,  # inside of each group
    ),
}


def depthwise(p, x):
    h = relu(conv(relu(conv(x, p["a"])), p["d"], p["d"].shape[-1] // (p["d"].shape[-1] // 4)))
    return conv(h, p["c"]).mean((0, 1)) @ p["o"]


def pooled(p, x):
    h = relu(conv(x, p["a"], stride=2))
    h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (2, 2, 1), (1, 1, 1), "VALID")
    return h.reshape(-1) @ p["d"] + p["e"]


def averaged(p, x):
    h = relu(conv(x, p["a"], dilation=2))
    h = jax.lax.reduce_window(h, 0.0, jax.lax.add, (2, 2, 1), (2, 2, 1), "VALID")
    return h.mean((0, 1)) @ p["o"]


def excited(p, x):
    h = relu(conv(x, p["a"]))
    gate = jax.nn.sigmoid(relu(h.mean((0, 1)) @ p["s"]) @ p["t"])
    return (h * gate[None, None]).mean((0, 1)) @ p["o"]


def grouped(p, x):
    h = relu(conv(relu(conv(x, p["a"])), p["d"], 2))
    return conv(h, p["c"]).mean((0, 1)) @ p["o"]


IMAGES = {
    "depthwise": Case(
        depthwise,
        {"a": (3, 3, 2, 4), "d": (3, 3, 1, 4), "c": (1, 1, 4, 5), "o": (5, 3)},
        (5, 5, 2),
        "a(3 3 in a)  d(3 3 1 a·d)  c(1 1 d c)  o(c out)",
        "a+r d+r c*",
    ),
    "depthwise, two of each": Case(
        depthwise,
        {"a": (3, 3, 2, 4), "d": (3, 3, 1, 8), "c": (1, 1, 8, 5), "o": (5, 3)},
        (5, 5, 2),
        "a(3 3 in a)  d(3 3 1 a·d 2)  c(1 1 d 2 c)  o(c out)",
        "a+r d+r c*",
        complete=False,
    ),
    "grouped": Case(
        grouped,
        {"a": (3, 3, 2, 4), "d": (3, 3, 2, 6), "c": (1, 1, 6, 5), "o": (5, 3)},
        (5, 5, 2),
        "a(3 3 in a 2)  d(3 3 2 a·d 3)  c(1 1 d 3 c)  o(c out)",
        "a+r d+r c*",
        complete=False,
    ),
    "pooled and flattened": Case(
        pooled,
        {"a": (3, 3, 1, 4), "d": (16, 3), "e": (3,)},
        (6, 6, 1),
        "a(3 3 in a)  d(2 2 a out)  e(out)",
        "a+r",
    ),
    "dilated and averaged": Case(
        averaged, {"a": (3, 3, 2, 4), "o": (4, 3)}, (6, 6, 2), "a(3 3 in a)  o(a out)", "a+r"
    ),
    "squeezed and excited": Case(
        excited,
        {"a": (3, 3, 2, 4), "s": (4, 2), "t": (2, 4), "o": (4, 3)},
        (5, 5, 2),
        "a(3 3 in a)  s(a s)  t(s t)  o(a·t out)",
        "a+ s+r t-",
    ),
}


def attention(p, x):
    h = x @ p["e"]
    q, k, v = (jnp.einsum("ts,shd->thd", h, p[name]) for name in ("q", "k", "value"))
    scores = jax.nn.softmax(jnp.einsum("thd,uhd->htu", q, k) / 2.0, -1)
    return jnp.einsum("htu,uhd,hds->ts", scores, v, p["o"]).mean(0) @ p["r"]


def one_head(p, x):
    h = x @ p["e"] + p["places"]
    scores = jax.nn.softmax((h @ p["q"]) @ (h @ p["k"]).T / 2.0, -1)
    return (scores @ (h @ p["value"]) @ p["o"]).mean(0) @ p["r"]


def fused(p, x):
    z = (normed(x @ p["e"]) @ p["qkv"]).reshape(7, 3, 2, 4)
    scores = jax.nn.softmax(jnp.einsum("thd,uhd->htu", z[:, 0], z[:, 1]) / 2.0, -1)
    return jnp.einsum("htu,uhd->thd", scores, z[:, 2]).reshape(7, 8).mean(0) @ p["o"] @ p["r"]


def mixer(p, x):
    h = x @ p["e"]
    return (h + (relu(h.T @ p["t"]) @ p["u"]).T).mean(0) @ p["o"]


def language(p, x):
    h = p["e"][x]
    return (h + jnp.tanh(h @ p["a"]) @ p["b"]) @ p["e"].T


TOKENS = {
    "heads": Case(
        attention,
        {
            "e": (5, 6),
            "q": (6, 2, 4),
            "k": (6, 2, 4),
            "value": (6, 2, 4),
            "o": (2, 4, 6),
            "r": (6, 3),
        },
        (7, 5),
        "e(in e)  q(e q 4)  k(e q 4)  value(e value 4)  o(value 4 o)  r(o out)",
        "e* q* value* o*",
        "k.q^-1",
        complete=False,
    ),
    "one head": Case(
        one_head,
        {
            "e": (5, 6),
            "places": (7, 6),
            "q": (6, 4),
            "k": (6, 4),
            "value": (6, 4),
            "o": (4, 6),
            "r": (6, 3),
        },
        (7, 5),
        "e(in e)  places(7 e)  q(e q)  k(e q)  value(e value)  o(value o)  r(o out)",
        "e* q* value* o*",
        "k.q^-1",
    ),
    "one kernel for all heads": Case(
        fused,
        {"e": (5, 6), "qkv": (6, 24), "o": (8, 6), "r": (6, 3)},
        (7, 5),
        "e(in e)  qkv(e 3 qkv 4)  o(qkv 4 o)  r(o out)",
        "e- qkv± o*",
        complete=False,
    ),
    "tokens are mixed": Case(
        mixer,
        {"e": (5, 6), "t": (7, 9), "u": (9, 7), "o": (6, 3)},
        (7, 5),
        "e(in e)  t(in2 t)  u(t u)  o(e out)",
        "e+ t+r u-!",
        complete=False,
    ),
    "embedding": Case(
        lambda p, x: relu(p["e"][x].mean(0) @ p["a"]) @ p["o"],
        {"e": (10, 6), "a": (6, 8), "o": (8, 3)},
        (4,),
        "e(in e)  a(e a)  o(a out)",
        "e* a+r",
        tokens=True,
    ),
    "embedding that reads out": Case(
        language,
        {"e": (10, 6), "a": (6, 8), "b": (8, 6)},
        (),
        "e(in·out e)  a(e a)  b(a e)",
        "e± a±",
        canonical=False,
        tokens=True,
    ),
}

FUNCTIONS = ACTIVATIONS | DENSE | NORMS | IMAGES | TOKENS
