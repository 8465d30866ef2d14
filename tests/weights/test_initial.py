"""Initial weights: variances against closed forms, within their own standard errors."""

import chex
import jax
import numpy as np
import pytest

from tests.weights.table import CASES, inputs
from wfm.weights import AsTrained, Group, WeightSpec, batch_norms, cnn, mlp, resnet, vit

N = 400  # networks
VARIANCES = {
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
}


def labelled(arrays):
    groups = {"in": Group(4, False), "h": Group(6), "out": Group(3, False)}
    return WeightSpec(groups, arrays, lambda w, x: {})


# Spec, array, fan-in and fan-out.
KERNELS = {
    "convolution": (cnn(4, 6, d_out=3), "conv1.kernel", 9 * 4, 9 * 6),
    "depthwise": (labelled({"k": (3, 5, "h")}), "k", 15, 15),
    "depthwise of flax": (labelled({"k": (3, 3, 1, "h")}), "k", 9, 9),
    "dense": (mlp(5, 7, 3), "dense1.kernel", 5, 7),
    "queries": (labelled({"k": ("in", 2, "h")}), "k", 4, 2 * 6),
    "after attention": (labelled({"k": (2, "h", "out")}), "k", 2 * 6, 2 * 3),
    "heads": (labelled({"k": ("in", "h", 5)}), "k", 4, 6 * 5),
    "from heads": (labelled({"v": ("in", "h", 5), "k": ("h", 5, "out")}), "k", 6 * 5, 3),
    "two sources": (labelled({"k": ("in", "h", "out")}), "k", 4 * 6, 3),
}


def stacked(spec, *args, **options):
    keys = jax.random.split(jax.random.key(7), N)
    return jax.vmap(lambda key: spec.init(key, *args, **options))(keys)


@pytest.mark.parametrize("how", VARIANCES)
@pytest.mark.parametrize(("spec", "name", "fan_in", "fan_out"), KERNELS.values(), ids=KERNELS)
def test_variances_of_kernels_are_the_closed_forms(spec, name, fan_in, fan_out, how):
    a = np.asarray(stacked(spec, how)[name], float).ravel()
    expected = VARIANCES[how](fan_in, fan_out)
    error = (a**2).std() / len(a) ** 0.5
    assert abs((a**2).mean() - expected) < 4 * error
    assert error < 0.03 * expected
    assert abs(a.mean()) < 4 * (expected / len(a)) ** 0.5


@pytest.mark.parametrize("how", VARIANCES)
def test_biases_start_at_zero(how):
    w = mlp(5, 7, 3).init(jax.random.key(0), how)
    assert not w["dense1.bias"].any()
    assert not w["dense2.bias"].any()
    w = vit(4, 2, 6, 2, 1, 5).init(jax.random.key(0), how)
    assert not any(w[f"block1.{name}.bias"].any() for name in ("query", "value", "output"))


@pytest.mark.parametrize("how", [*VARIANCES, "normal"])
def test_gains_and_variances_start_at_one(how):
    spec = resnet(8, 2)
    w = spec.init(jax.random.key(0), how)
    for norm in batch_norms(spec):
        assert (w[norm.variance] == 1).all()
        assert how == "normal" or (w[norm.gain] == 1).all()
        assert how == "normal" or not (w[norm.mean].any() or w[norm.shift].any())


@pytest.mark.parametrize(("spec", "shape"), CASES)
def test_initial_weights_fit_their_network(spec, shape):
    w = spec.init(jax.random.key(0))
    spec.check(w)
    spread = spec.outputs(w, inputs(shape)).std(0)  # neither constant nor huge
    assert ((spread > 0.02) & (spread < 20)).all()
    chex.assert_trees_all_equal(w, spec.init(jax.random.key(0), "he"))


@pytest.mark.parametrize("std", [0.1, None])
def test_normal_draws_are_those_of_flat_space(std):
    spec, key = mlp(5, 7, 3), jax.random.key(3)
    expected = AsTrained(spec).prior(1.0 if std is None else std).sample(key)
    chex.assert_trees_all_equal(spec.init(key, "normal", std=std), expected)


def test_what_cannot_be_drawn_is_refused_in_one_sentence():
    spec, key = mlp(5, 7, 3), jax.random.key(0)
    with pytest.raises(ValueError, match="'she'; choose one of he, lecun, glorot, normal"):
        spec.init(key, "she")
    with pytest.raises(ValueError, match="'he' finds its own"):
        spec.init(key, "he", std=0.1)
