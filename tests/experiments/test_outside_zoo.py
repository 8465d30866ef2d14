"""A zoo from a file takes the place of the one that an experiment would train."""

import jax
import numpy as np
import pytest

from configs import uci
from experiments.experiment import Experiment, encode_all
from wfm.weights import save_weights
from wfm.zoo import WeightSet


def experiment(path, **flow):
    config = uci.get_config()
    config.update({"task": "iris", "hidden": (5,)})
    config.zoo.path = str(path)
    config.field.own_embedding = "fixed"
    config.flow.update({"align": "none"} | flow)
    return Experiment(config)


def test_outside_zoos_are_encoded_without_their_beginning(tmp_path):
    file = tmp_path / "zoo.safetensors"
    made = experiment(file)
    spec, rng = made.network, np.random.default_rng(0)
    arrays = {n: rng.normal(size=(6, *spec.shape(n))).astype("float32") for n in spec.arrays}
    save_weights(file, arrays)
    zoo = made.make_zoo()
    jax.tree.map(np.testing.assert_array_equal, zoo.weights, arrays)
    initial, points = made.pairs(zoo, {})
    assert initial is None
    made.form.spec.check(made.data(initial, points), batch_dims=1)
    with pytest.raises(ValueError, match="network 0 has no canonical form"):
        encode_all(made.form, zoo.weights | {"dense2.kernel": 0 * zoo.weights["dense2.kernel"]})


def test_what_needs_the_beginning_says_so(tmp_path):
    paired = experiment(tmp_path / "none", coupling="trajectory")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        paired.make_zoo()
    some = {n: np.ones((2, *paired.network.shape(n))) for n in paired.network.arrays}
    with pytest.raises(ValueError, match="choose what needs none"):
        paired.pairs(WeightSet.of(some), {})
