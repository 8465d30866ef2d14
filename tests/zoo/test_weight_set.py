"""Zoos from elsewhere: from weights alone, from files of others, in whatever precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wfm.weights import Group, PositiveScaling, WeightSpec, mlp, save_weights
from wfm.zoo import WeightSet

SPEC = mlp(4, 5, 3)
X = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)


def draws(n=6, dtype="float32"):
    rng = np.random.default_rng(0)
    return {a: rng.normal(size=(n, *SPEC.shape(a))).astype(dtype) for a in SPEC.arrays}


def test_weights_alone_make_a_zoo():
    zoo = WeightSet.of(draws(), SPEC, X)
    assert zoo.trajectory.tolist() == list(range(6))
    assert zoo.step.tolist() == [0] * 6
    assert len(zoo.last()) == len(zoo) == 6
    seen, held_out = zoo.split(0.5)
    assert len(seen) == len(held_out) == 3
    with pytest.raises(ValueError, match="does not hold the weights that its networks were"):
        zoo.initial_of_each()


def test_what_is_known_is_kept(tmp_path):
    start = {name: a[:2] for name, a in draws().items()}
    known = {"trajectory": [0, 1, 0, 1, 0, 1], "step": [1, 1, 2, 2, 3, 3], "initial": start}
    zoo = WeightSet.of(draws(), SPEC, **known, metrics={"train_loss": np.arange(6.0)})
    assert zoo.last().step.tolist() == [3, 3]
    np.testing.assert_array_equal(zoo.initial_of_each()["dense1.bias"][3], start["dense1.bias"][1])
    zoo.save(tmp_path / "zoo")
    jax.tree.map(np.testing.assert_array_equal, WeightSet.load(tmp_path / "zoo", SPEC), zoo)


@pytest.mark.parametrize("kept", [True, False])
def test_zoos_without_a_beginning_are_read_back(kept, tmp_path):
    """In the format of `save`, or as stacked arrays alone."""
    zoo = WeightSet.of(draws(), SPEC)
    zoo.save(tmp_path / "zoo") if kept else save_weights(tmp_path / "zoo", draws())
    again = WeightSet.load(tmp_path / "zoo", SPEC, X)
    assert again.initial is None
    jax.tree.map(np.testing.assert_array_equal, again, zoo)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_every_precision_is_worked_on_in_single(dtype, tmp_path):
    half = draws(dtype=jnp.dtype(dtype))
    save_weights(tmp_path / "zoo", half)
    for zoo in (WeightSet.of(half, SPEC), WeightSet.load(tmp_path / "zoo", SPEC)):
        for name, a in zoo.weights.items():
            np.testing.assert_array_equal(a, half[name].astype("float32"), strict=True)


def wrong():
    """As `SPEC`, but for an activation that no rescaling commutes with."""

    def activations(w, x):
        h = jax.nn.gelu(x @ w["dense1.kernel"] + w["dense1.bias"])
        return {"h1": h, "out": h @ w["dense2.kernel"] + w["dense2.bias"]}

    groups = dict(SPEC.groups) | {"h1": Group(5, scaling=PositiveScaling())}
    return WeightSpec(groups, SPEC.arrays, activations)


BAD = {
    "wrong labels": (lambda: WeightSet.of(draws(), wrong(), X), "rescaling the neurons of 'h1'"),
    "one network": (
        lambda: WeightSet.of({n: a[0] for n, a in draws().items()}, SPEC),
        "'dense1.bias' has shape",
    ),
    "numbers": (
        lambda: WeightSet.of({n: a.astype("int32") for n, a in draws().items()}, SPEC),
        "'dense1.kernel' holds int32",
    ),
    "another length": (
        lambda: WeightSet.of(draws() | {"dense2.bias": np.zeros((5, 3))}, SPEC),
        r"holds 6 networks, and 'dense2.bias' has shape \(5, 3\)",
    ),
    "too few trajectories": (
        lambda: WeightSet.of(draws(), SPEC, trajectory=[0, 1]),
        r"'trajectory' has shape \(2,\)",
    ),
    "trajectories without initial weights": (
        lambda: WeightSet.of(draws(), SPEC, initial=draws(4)),
        "trajectories 0 to 5, and initial weights of 4",
    ),
    "scalars": (lambda: WeightSet.of({"a": 1.0}), "have a leading axis"),
    "not finite": (
        lambda: WeightSet.of(draws() | {"dense2.bias": np.full((6, 3), np.nan)}, SPEC, X),
        "NaN or infinite weights in 6 trajectories",
    ),
    "no network": (lambda: WeightSet.of(draws(0), SPEC), "the zoo is empty"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_zoos_are_refused_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_files_of_other_things_are_refused_in_words(tmp_path):
    save_weights(tmp_path / "other", {"fc.weight": np.ones((3, 4))})
    with pytest.raises(ValueError, match=r"its arrays are fc\.weight, and those of the network"):
        WeightSet.load(tmp_path / "other", SPEC)
    save_weights(tmp_path / "half", {"weights/dense1.bias": np.ones((3, 5))})
    with pytest.raises(ValueError, match="lacks 'step'"):
        WeightSet.load(tmp_path / "half", SPEC)
