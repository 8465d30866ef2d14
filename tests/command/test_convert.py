"""`wfm convert` and `wfm align`: the same networks, elsewhere."""

import re

import numpy as np
import pytest

from tests.io.torch_nets import SPEC, folder_of, networks, torch_outputs, vectors
from wfm.io import FORMATS, load_networks, read_arrays, write_arrays

OWN = ("--network", "mlp:4,5,5,3")
NAMES = "torch:dense1=0,dense2=2,dense3=4"


def test_one_file_keeps_its_arrays(wfm, tmp_path):
    arrays = {n: a[0] for n, a in networks().items()}
    write_arrays(tmp_path / "a.npz", arrays, "npz")
    wfm("convert", tmp_path / "a.npz", tmp_path / "b.safetensors")
    found, _ = read_arrays(tmp_path / "b.safetensors")
    assert all((found[name] == a).all() for name, a in arrays.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".msgpack", ".h5", ".pt"])
def test_a_zoo_goes_to_one_file_and_back_to_a_folder(suffix, wfm, tmp_path):
    pytest.importorskip({".h5": "h5py", ".pt": "torch"}.get(suffix, "numpy"))
    weights = networks(5)
    steps = {"trajectory": np.arange(5) // 2, "metrics.loss": np.arange(5.0)}
    write_arrays(tmp_path / "zoo.npz", weights | steps, "npz")
    wfm("convert", tmp_path / "zoo.npz", tmp_path / f"b{suffix}", *OWN)
    wfm("convert", tmp_path / f"b{suffix}", tmp_path / "c", *OWN, "--format", "npz")
    assert len(list((tmp_path / "c").glob("*.npz"))) == 5
    zoo = load_networks(tmp_path / "c", SPEC)
    assert zoo.trajectory.tolist() == [0, 0, 1, 1, 2]
    assert zoo.metrics["loss"].tolist() == [0, 1, 2, 3, 4]
    for name, a in weights.items():
        np.testing.assert_array_equal(zoo.weights[name], a)


def test_a_layout_changes_on_the_way(wfm, tmp_path):
    torch = pytest.importorskip("torch")
    modules = folder_of(tmp_path / "a", 3)
    inputs = vectors()
    wfm("convert", tmp_path / "a", tmp_path / "b", *OWN, "--layout", NAMES, "--to-layout", "own")
    zoo = load_networks(tmp_path / "b", SPEC, None, inputs, torch_outputs(modules, inputs))
    assert len(zoo) == 3
    wfm("convert", tmp_path / "b", tmp_path / "c", *OWN, "--to-layout", NAMES)
    again = torch.load(tmp_path / "c" / "network_0001.pt", weights_only=True)
    modules[0].load_state_dict(again, strict=True)
    for name, a in modules[1].state_dict().items():
        assert torch.equal(a, again[name])


def test_a_folder_needs_a_network_and_bad_files_a_decision(wfm, refused, tmp_path):
    for i in range(3):
        write_arrays(tmp_path / f"a/{i}.npz", {n: a[i] for n, a in networks().items()}, "npz")
    (tmp_path / "a/bad").write_text("no weights")
    a, b = tmp_path / "a", tmp_path / "b"
    assert "is a folder; say by --network" in refused("convert", a, b)
    said = refused("convert", a, b, *OWN)
    assert "1 of its networks cannot be used (bad: " in said and "by --skip-bad" in said
    assert not b.exists()
    assert "3 networks" in wfm("convert", a, b, *OWN, "--skip-bad", "--format", "npz")
    assert all(name in FORMATS for name in ("npz", "torch"))


def test_aligned_networks_compute_the_same_and_are_closer(wfm, tmp_path):
    rng, one = np.random.default_rng(0), {n: a[0] for n, a in networks().items()}
    many = []
    for _ in range(4):
        p, q = rng.permutation(5), rng.permutation(5)
        many.append(
            {
                "dense1.kernel": one["dense1.kernel"][:, p],
                "dense1.bias": one["dense1.bias"][p],
                "dense2.kernel": one["dense2.kernel"][p][:, q],
                "dense2.bias": one["dense2.bias"][q],
                "dense3.kernel": one["dense3.kernel"][q],
                "dense3.bias": one["dense3.bias"],
            }
        )
    write_arrays(tmp_path / "a.npz", {n: np.stack([m[n] for m in many]) for n in one}, "npz")
    said = wfm("align", tmp_path / "a.npz", "--out", tmp_path / "b.npz", *OWN)
    assert "4 networks, in one file (npz, layout own)" in said
    before, after = (float(w) for w in re.findall(r"([\d.e-]+) (?:before|aligned)", said))
    assert after < 1e-6 < before
    zoo = load_networks(tmp_path / "b.npz", SPEC)
    for name in one:  # planted permutations are undone
        a = np.asarray(zoo.weights[name])
        np.testing.assert_array_equal(a, np.broadcast_to(a[:1], a.shape))
    x = vectors()
    np.testing.assert_allclose(SPEC.outputs(zoo.at(2), x), SPEC.outputs(one, x), atol=1e-5)


def test_nothing_to_align(refused, tmp_path):
    write_arrays(tmp_path / "a.npz", {"dense1.kernel": np.ones((2, 4, 3), "f4")}, "npz")
    said = refused(
        "align", tmp_path / "a.npz", "--network", "mlp:4,3,bias=False", "--out", tmp_path / "b"
    )
    assert "no neurons that may be permuted" in said and not (tmp_path / "b").exists()
