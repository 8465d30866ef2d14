"""Networks for others, who read them with their own libraries."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.io.torch_nets import (
    CONV,
    CONV_LAYOUT,
    LAYOUT,
    SPEC,
    images,
    torch_conv,
    torch_mlp,
    torch_outputs,
    vectors,
)
from tests.io.written import there
from wfm.errors import UserError
from wfm.io import FORMATS, load_networks, read_arrays, save_networks
from wfm.weights.layout import to_stored
from wfm.zoo import WeightSet

WRITERS = [
    name
    for name, each in FORMATS.items()
    if each.write and there({"hdf5": "h5py", "torch": "torch"}.get(name, "numpy"))
]
CASES = {
    "mlp": (SPEC, LAYOUT, lambda: torch_mlp(4, 5, 5, 3), vectors),
    "convolution": (CONV, CONV_LAYOUT, torch_conv, images),
}


def zoo_of(spec=SPEC, n=12):
    rng = np.random.default_rng(0)
    weights = {a: rng.normal(size=(n, *spec.shape(a))).astype("f4") for a in spec.arrays}
    known = {"trajectory": np.arange(n) // 2, "step": 3 * (np.arange(n) % 2)}
    metrics = {"loss": rng.normal(size=n) / 3, "nothing": np.full(n, np.nan)}
    initial = {a: rng.normal(size=(n // 2, *spec.shape(a))).astype("f4") for a in spec.arrays}
    return WeightSet.of(weights, spec, **known, metrics=metrics, initial=initial)


@pytest.mark.skipif(not there("torch"), reason="torch is not installed")
@pytest.mark.parametrize("case", CASES)
def test_pytorch_loads_what_is_saved_and_computes_the_same(case, tmp_path):
    import torch

    spec, layout, module, inputs = CASES[case]
    zoo = zoo_of(spec)
    save_networks(zoo, tmp_path / "zoo", layout)
    files = sorted((tmp_path / "zoo").glob("*.pt"))
    modules = [module() for _ in files]
    for each, file in zip(modules, files, strict=True):
        each.load_state_dict(torch.load(file), strict=True)
    found = jax.vmap(spec.outputs, (0, None))(zoo.weights, jnp.asarray(inputs()))
    np.testing.assert_allclose(torch_outputs(modules, inputs()), found, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not there("torch"), reason="torch is not installed")
def test_other_arrays_are_in_every_file(tmp_path):
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    counters = {"1.num_batches_tracked": np.array(7)}
    places = {n: a.shape for n, a in module.state_dict().items() if n not in counters}
    weights = {n: np.ones((2, *shape), "f4") for n, shape in places.items()}
    save_networks(weights, tmp_path / "zoo", others=counters)
    module.load_state_dict(torch.load(tmp_path / "zoo" / "network_0001.pt"), strict=True)
    assert not (tmp_path / "zoo" / "metrics.csv").exists()  # nothing is known of them
    assert module[1].num_batches_tracked == 7


@pytest.mark.parametrize("format", WRITERS)
def test_folders_and_files_hold_the_zoo(format, tmp_path):
    zoo = zoo_of()
    save_networks(zoo, tmp_path / "zoo", LAYOUT, format)
    found = load_networks(tmp_path / "zoo", SPEC, LAYOUT)
    jax.tree.map(np.testing.assert_array_equal, found, WeightSet(*_parts(zoo), None))
    save_networks(zoo, tmp_path / "stack", LAYOUT, format, stacked=True)
    jax.tree.map(
        np.testing.assert_array_equal, load_networks(tmp_path / "stack", SPEC, LAYOUT), zoo
    )
    save_networks(zoo.weights, tmp_path / "weights", LAYOUT, format, stacked=True)
    found, stored = read_arrays(tmp_path / "weights")[0], to_stored(LAYOUT, zoo.weights)
    assert found.keys() == stored.keys()
    jax.tree.map(np.testing.assert_array_equal, found, stored)


def _parts(zoo):
    return zoo.weights, zoo.trajectory, zoo.step, zoo.metrics


def test_the_table_says_what_is_known(tmp_path):
    save_networks(zoo_of(), tmp_path / "zoo", LAYOUT, "npz")
    with (tmp_path / "zoo" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[3]["file"] == "network_0003.npz"
    assert (rows[3]["trajectory"], rows[3]["step"], rows[3]["nothing"]) == ("1", "3", "nan")


def test_what_does_not_fit_is_refused_and_nothing_is_left(tmp_path):
    weights = {name: np.asarray(a) for name, a in zoo_of().weights.items()}
    for given, layout, why in [
        (
            weights,
            {n: p for n, p in LAYOUT.items() if n != "dense1.bias"},
            "not the same arrays: de",
        ),
        (weights | {"dense1.bias": np.ones((12, 4))}, LAYOUT, r"'dense1.bias' has shape \(12, 4\)"),
        ({n: a[0] for n, a in weights.items()}, LAYOUT, r"stacked networks of this layout \(n, \*"),
    ]:
        with pytest.raises(UserError, match=why):
            save_networks(given, tmp_path / "zoo", layout, "npz")
    with pytest.raises(UserError, match="files are not written as 'pickle'"):
        save_networks(weights, tmp_path / "zoo", LAYOUT, "pickle")
    assert not list(tmp_path.iterdir())
    (tmp_path / "zoo").mkdir()
    save_networks(weights, tmp_path / "zoo", LAYOUT, "npz")
    with pytest.raises(UserError, match="zoo is there and not empty; choose a new folder"):
        save_networks(weights, tmp_path / "zoo", LAYOUT, "npz")
    assert len(list((tmp_path / "zoo").iterdir())) == 12


def test_a_disk_that_fills_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wfm.io.save._write_table", full)
    with pytest.raises(UserError, match="zoo cannot be written"):
        save_networks(zoo_of(), tmp_path / "zoo", LAYOUT, "npz")
    assert not list(tmp_path.iterdir())
