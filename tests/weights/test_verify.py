"""Labels that do not say what a network computes are refused, and those that do pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.table import CASES, NETWORKS, inputs, outputs, weights
from wfm.weights import (
    Group,
    LinearScaling,
    NoScaling,
    PositiveScaling,
    SignScaling,
    WeightSpec,
    mlp,
)


def stacked(spec, n=2, std=0.5):
    """Networks as they often start: with biases 0."""
    rng = np.random.default_rng(0)
    draw = lambda name: rng.normal(scale=std, size=(n, *spec.shape(name)))  # noqa: E731
    w = {n: draw(n) * (not n.endswith("bias")) for n in spec.arrays}
    return {n: 1 + np.abs(a) if spec.holds_variances(n) else a for n, a in w.items()}


@pytest.mark.parametrize(("spec", "shape"), CASES)
def test_true_labels_pass(spec, shape):
    spec.verify(stacked(spec), inputs(shape, 4))


def two_branch(right_leaves):
    groups = {
        "in": Group(3, False),
        "left": Group(4, scaling=PositiveScaling()),
        "right": Group(4, scaling=SignScaling()),
        "out": Group(2, False),
    }
    arrays = {"left.kernel": ("in", "left"), "right.kernel": ("in", "right")}
    arrays |= {"out.left": ("left", "out"), "out.right": (right_leaves, "out")}

    def activations(w, x):
        a, b = jax.nn.relu(x @ w["left.kernel"]), jnp.tanh(x @ w["right.kernel"])
        return {"left": a, "right": b, "out": a @ w["out.left"] + b @ w["out.right"]}

    return WeightSpec(groups, arrays, activations), (3,)


def one_layer(act, scaling, normalized=False):
    """One hidden layer, with batch norm if wanted."""
    groups = {"in": Group(3, False), "h": Group(4, scaling=scaling), "out": Group(2, False)}
    arrays = {"k": ("in", "h"), "b": ("h",), "o": ("h", "out")}
    if normalized:
        arrays |= dict.fromkeys(("norm.scale", "norm.mean", "norm.variance"), ("h",))

    def activations(w, x):
        z = x @ w["k"] + w["b"]
        if normalized:
            z = (z - w["norm.mean"]) * w["norm.scale"] * (w["norm.variance"] ** 2 + 0.1) ** -0.5
        h = act(z)
        return {"h": h, "out": h @ w["o"]}

    return WeightSpec(groups, arrays, activations), (3,)


def depthwise(scaling, own_group=False):
    """A convolution, one of each channel on its own, and a read-out."""
    after = "d" if own_group else "c"
    groups = {"in": Group(2, False), "c": Group(3, scaling=scaling)}
    groups |= {"d": Group(3, scaling=scaling)} if own_group else {}
    groups |= {"out": Group(2, False)}
    arrays = {"conv": (1, 1, "in", "c"), "depth": (3, 3, 1, after), "dense": (after, "out")}

    def convolve(x, kernel, groups):
        return jax.lax.conv_general_dilated(
            x[None],
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )[0]

    def activations(w, x):
        c = jax.nn.relu(convolve(x, w["conv"], 1))
        d = jax.nn.relu(convolve(c, w["depth"], 3))
        values = {"c": c, "d": d} if own_group else {"c": d}
        return values | {"out": d.mean((0, 1)) @ w["dense"]}

    return WeightSpec(groups, arrays, activations), (4, 4, 2)


def temperature():
    """The last array multiplies outputs, though its label says that it is added."""
    groups = {"in": Group(3, False), "out": Group(2, False)}
    arrays = {"k": ("in", "out"), "t": ("out",)}
    return WeightSpec(groups, arrays, lambda w, x: {"out": (x @ w["k"]) * w["t"]}), (3,)


TRUE = {
    "two branches": two_branch("right"),
    "leaky ReLU": one_layer(jax.nn.leaky_relu, PositiveScaling()),
    "linear": one_layer(lambda z: z, LinearScaling()),
    "batch norm, no rescaling": one_layer(jax.nn.relu, NoScaling(), normalized=True),
    "depthwise, no rescaling": depthwise(NoScaling()),
}
WRONG = {
    "leaves another group": (*two_branch("left"), "permuting the neurons of 'left'.*out.right"),
    "GELU": (*one_layer(jax.nn.gelu, PositiveScaling()), "rescaling the neurons of 'h'"),
    "GELU is not odd": (*one_layer(jax.nn.gelu, SignScaling()), "rescaling the neurons of 'h'"),
    "tanh": (*one_layer(jnp.tanh, PositiveScaling()), "rescaling the neurons of 'h'"),
    "ReLU is not linear": (*one_layer(jax.nn.relu, LinearScaling()), "rescaling .* 'h'"),
    "batch norm": (
        *one_layer(jax.nn.relu, PositiveScaling(), normalized=True),
        "rescaling the neurons of 'h'.*norm.scale",
    ),
    "depthwise": (*depthwise(PositiveScaling()), "rescaling the neurons of 'c'.*depth"),
    "depthwise, as if mixed": (*depthwise(NoScaling(), True), "permuting the neurons of 'c'"),
    "temperature": (*temperature(), "these are not: doubling what enters 'out'.* k, t"),
}


@pytest.mark.parametrize(("spec", "shape"), TRUE.values(), ids=TRUE)
def test_true_labels_of_other_networks_pass(spec, shape):
    spec.verify(stacked(spec), inputs(shape, 4))


@pytest.mark.parametrize(("spec", "shape", "message"), WRONG.values(), ids=WRONG)
def test_wrong_labels_are_named(spec, shape, message):
    for std in (0.05, 0.5):
        with pytest.raises(ValueError, match=message):
            spec.verify(stacked(spec, std=std), inputs(shape, 4))


def test_layouts_show_in_the_outputs_alone():
    spec, x = mlp(4, 4, 4), inputs((4,), 6)
    w = stacked(spec)
    there = jnp.stack([outputs(spec, jax.tree.map(lambda a, i=i: a[i], w), x) for i in range(2)])
    transposed = w | {n: w[n].swapaxes(1, 2) for n in ("dense1.kernel", "dense2.kernel")}
    spec.verify(w, x, jax.nn.log_softmax(there))
    spec.verify(transposed, x)  # which nothing but outputs can tell
    with pytest.raises(ValueError, match=r"do not compute the outputs given.*transposed"):
        spec.verify(transposed, x, there)
    with pytest.raises(ValueError, match="same networks for the same inputs"):
        spec.verify(w, x, there[:1])


def test_networks_that_are_not_finite_are_left_out():
    spec, x = mlp(4, 4, 4), inputs((4,), 6)
    w = stacked(spec)
    bad = w | {"dense1.bias": np.full((2, 4), [[np.nan], [0]])}
    spec.verify(bad, x)
    with pytest.raises(ValueError, match="none has finite weights"):
        spec.verify(jax.tree.map(lambda a: a[:1], bad), x)
    with pytest.raises(ValueError, match="one network where many are expected"):
        spec.verify(weights(spec, 0), x)


def test_half_precision_passes():
    spec, shape = NETWORKS["mlp"]
    half = jax.tree.map(lambda a: np.asarray(jnp.asarray(a, "bfloat16")), stacked(spec))
    spec.verify(half, inputs(shape, 4))
