"""Specs, files, and what they say of input that does not fit."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.table import NETWORKS, inputs, outputs, weights
from wfm.weights import (
    AsTrained,
    Canonical,
    Group,
    LogVariances,
    PositiveScaling,
    WeightSpec,
    cnn,
    in_chunks,
    lenet5,
    load_weights,
    mlp,
    residual_mlp,
    resnet,
    save_weights,
    siren,
    vit,
)


def test_shapes_follow_the_labels():
    spec = mlp(30, 16, 8, 2)
    assert spec.shape("dense2.kernel") == (16, 8)
    assert spec.n_weights == 30 * 16 + 16 + 16 * 8 + 8 + 8 * 2 + 2
    assert spec.permutable == ("h1", "h2")
    assert spec.fixed == ("in", "out")
    assert cnn(2, 4, d_out=3).shape("conv1.kernel") == (3, 3, 2, 4)


def test_apply_agrees_with_plain_numpy():
    spec = mlp(5, 8, 3)
    w, x = weights(spec, 0), np.asarray(inputs((5,)))
    n = {name: np.asarray(a, np.float64) for name, a in w.items()}
    hidden = np.maximum(x @ n["dense1.kernel"] + n["dense1.bias"], 0)
    expected = hidden @ n["dense2.kernel"] + n["dense2.bias"]
    np.testing.assert_allclose(outputs(spec, w, x), expected, rtol=1e-4, atol=1e-5)


MAKERS = {
    "mlp": lambda width=8: mlp(4, width, 3),
    "residual_mlp": lambda width=8: residual_mlp(4, width, 5, 3),
    "cnn": lambda width=8: cnn(2, width, d_out=3),
    "lenet5": lambda width=8: lenet5(12, widths=(2, 3, width, 3)),
    "resnet": lambda width=2: resnet(8, width),
    "vit": lambda width=8: vit(4, 2, 4, hidden=width),
    "siren": lambda width=8: siren(2, width, 1),
    "AsTrained": lambda width=8: AsTrained(mlp(4, width, 3)),
    "Canonical": lambda width=8: Canonical(mlp(4, width, 3)),
    "LogVariances": lambda width=2: LogVariances(AsTrained(resnet(8, width))),
    "points": lambda width=8: Canonical(mlp(4, width, 3)).spec,
    "points with logarithms": lambda width=2: LogVariances(Canonical(resnet(8, width))).spec,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_architectures_and_forms_are_values(make):
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def traced(value, x):
        traces.append(value)
        return x

    first, same, other = make(), make(), make(9)
    assert first is not same
    assert first == same
    assert hash(first) == hash(same)
    assert first != other
    for value in (first, same, other):
        traced(value, 1.0)
    assert traces == [first, other]


def test_what_a_spec_is_made_of_tells_it_apart():
    spec = mlp(4, 8, 3)
    assert spec != mlp(4, 8, 3, activation="tanh")
    assert spec == spec.resize(h1=9).resize(h1=8)
    assert spec != dataclasses.replace(spec, arrays=dict(reversed(spec.arrays.items())))
    own = lambda: dataclasses.replace(spec, activations=lambda w, x: spec.activations(w, x))  # noqa: E731
    assert own() != own()
    assert Canonical(spec) != Canonical(spec, keep_logits=True)
    assert Canonical(spec) != Canonical(spec, last="sphere")
    assert spec.__eq__(1) is False


def test_resized_networks_compute():
    spec = mlp(5, 8, 3).resize(h1=20)
    assert outputs(spec, weights(spec, 0), inputs((5,))).shape == (20, 3)
    with pytest.raises(ValueError, match="no group 'h7'"):
        spec.resize(h7=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "dense1.bias"}, "missing .*dense1.bias"),
        (lambda w: w | {"more": jnp.zeros(2)}, "unknown .*more"),
        (
            lambda w: w | {"dense1.bias": jnp.zeros(9)},
            r"'dense1.bias' has shape \(9,\), expected \(8,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(change, message):
    spec = NETWORKS["mlp"][0]
    with pytest.raises(ValueError, match=message):
        spec.check(change(weights(spec, 0)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mlp(3), "input and output widths"),
        (lambda: mlp(3, 0, 2), "at least 1"),
        (lambda: mlp(3, 4, 2, activation="sine"), "unknown activation 'sine'; choose one of relu"),
        (lambda: Canonical(mlp(3, 4, 2), "cube"), "choose one of sphere"),
        (
            lambda: WeightSpec({"in": Group(2)}, {"w": ("in", "h")}, lambda w, x: x),
            "unknown group 'h'",
        ),
    ],
)
def test_impossible_networks_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_kernels_out_of_order_are_refused():
    groups = {
        "in": Group(2, False),
        "a": Group(3),
        "b": Group(4, scaling=PositiveScaling()),
        "out": Group(2, False),
    }
    arrays = {"ab": ("b", "a"), "xa": ("in", "a"), "xb": ("in", "b"), "o": ("a", "out")}
    with pytest.raises(ValueError, match="order of computation"):
        Canonical(WeightSpec(groups, arrays, lambda w, x: x))


def test_files_keep_every_bit(tmp_path):
    w = weights(NETWORKS["cnn"][0], 0) | {"log_scale": jnp.float32(0.3)}
    save_weights(tmp_path / "new" / "w.safetensors", w, {"note": "x"})
    read, metadata = load_weights(tmp_path / "new" / "w.safetensors")
    assert metadata == {"note": "x"}
    assert read.keys() == w.keys()
    assert all((read[n] == np.asarray(w[n])).all() and read[n].shape == w[n].shape for n in w)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"<html>not weights</html>")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_weights(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("n", [1, 4, 9])
def test_chunks_compile_once_and_change_nothing(n):
    traces = []

    @jax.jit
    def square(a):
        traces.append(a.shape)
        return a**2

    x = jnp.arange(float(n))
    np.testing.assert_array_equal(in_chunks(square, x, 4), x**2)
    assert traces == [(min(n, 4),)]


THREE = mlp(4, 3, 2)
MANY = {name: np.ones((3, *THREE.shape(name)), np.float32) for name in THREE.arrays}
SHORT = MANY | {"dense1.bias": MANY["dense1.bias"][:2]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mlp(4, 8.0, 3), "the size of a group of neurons must be a whole number, got 8.0"),
        (lambda: mlp(4, 0, 3), "the size of a group of neurons must be at least 1, got 0"),
        (lambda: mlp(4, 3, 2).check(weights(mlp(4, 3, 2), 0), 1), "one network where many are"),
        (lambda: mlp(4, 3, 2).check(MANY), "many networks where one is expected; map over them"),
        (lambda: Canonical(mlp(4, 3, 2)).encode(MANY), "many networks where one is expected"),
        (lambda: mlp(4, 3, 2).check(SHORT, 1), "unequal numbers of networks: [(2,), (3,)]"),
    ],
)
def test_sizes_and_numbers_of_networks(call, message, as_in_use):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
