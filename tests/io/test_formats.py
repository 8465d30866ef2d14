"""Arrays of one file, as each library writes it: read as they are, and no code is run."""

import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.io.written import WRITTEN, there
from wfm.errors import MissingFile, UserError
from wfm.io import FORMATS, read_arrays, write_arrays

TYPES = ("float16", "bfloat16", "float32", "float64")
NO_BFLOAT16 = {"hdf5"}
needs_torch = pytest.mark.skipif(not there("torch"), reason="torch is not installed")


def drawn(dtype="float32"):
    rng = np.random.default_rng(0)
    shapes = {"fc1.weight": (3, 2), "fc1.bias": (3,), "fc2.weight": (1, 3), "scale": ()}
    return {name: rng.normal(size=s).astype(jnp.dtype(dtype)) for name, s in shapes.items()}


def in_order(found, arrays):
    """Equinox's files have no names, but an order."""
    return dict(zip(arrays, found.values(), strict=True)) if "0" in found else found


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", WRITTEN)
def test_arrays_are_read_as_they_are_whatever_the_suffix(kind, dtype, tmp_path):
    if dtype == "bfloat16" and kind in NO_BFLOAT16:
        pytest.skip("the format has no bfloat16")
    arrays = drawn(dtype)
    with jax.enable_x64(True):
        WRITTEN[kind](tmp_path / "weights.bin", arrays)
    found, _ = read_arrays(tmp_path / "weights.bin")
    found = in_order(found, arrays)
    assert found.keys() == arrays.keys()
    for name, a in arrays.items():
        assert found[name].dtype == a.dtype
        np.testing.assert_array_equal(found[name], a)


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.97])
def test_what_is_cut_off_is_refused(kind, share, tmp_path):
    path = tmp_path / "weights.pt"
    WRITTEN[kind](path, drawn())
    if path.is_dir():
        path = next(p for p in path.rglob("*") if p.name == "_METADATA")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"weights\.pt"):
        read_arrays(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", [n for n, each in FORMATS.items() if each.write])
def test_what_is_written_is_read(name, tmp_path):
    if name in ("torch", "hdf5") and not there({"hdf5": "h5py"}.get(name, name)):
        pytest.skip("not installed")
    arrays = drawn() | {"half": np.ones(2, jnp.bfloat16), "file": np.ones((0, 2), "f4")}
    write_arrays(tmp_path / "deep" / "w", arrays, name)
    found, _ = read_arrays(tmp_path / "deep" / "w")
    assert found.keys() == arrays.keys()
    for key, a in arrays.items():
        np.testing.assert_array_equal(found[key].astype("f4"), a.astype("f4"))
    with pytest.raises(UserError, match="files are not written as 'orbax'; choose one of 'torch'"):
        write_arrays(tmp_path / "w", arrays, "orbax")


class Evil:
    """Unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def evil_torch(path, evil, legacy=False):
    import torch

    torch.save({"w": evil}, path, _use_new_zipfile_serialization=not legacy)


def evil_numpy(path, evil):
    with path.open("wb") as file:
        np.savez(file, a=np.ones(2), b=np.array([evil], dtype=object))


def evil_leaves(path, evil):
    with path.open("wb") as file:
        np.save(file, np.array([evil], dtype=object))


def evil_in_zip(path, evil):
    """As torch's zip, but made by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(evil))
        archive.writestr("a/version", "3\n")


EVIL = {
    "pickle": lambda path, evil: path.write_bytes(pickle.dumps(evil)),
    "oldest pickle": lambda path, evil: path.write_bytes(pickle.dumps(evil, 0)),
    "pickle of protocol 2": lambda path, evil: path.write_bytes(pickle.dumps(evil, 2)),
    "gzip": lambda path, evil: path.write_bytes(gzip.compress(pickle.dumps(evil))),
    "npz": evil_numpy,
    "npy": evil_leaves,
    "torch": evil_torch,
    "legacy torch": lambda path, evil: evil_torch(path, evil, True),
    "zip": evil_in_zip,
}


@needs_torch
@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_no_code_is_run(kind, suffix, tmp_path):
    path, made = tmp_path / f"evil{suffix}", tmp_path / "made"
    EVIL[kind](path, Evil(made))
    with pytest.raises(UserError) as caught:
        read_arrays(path)
    assert not made.exists()
    assert str(path) in str(caught.value)
    try:
        pickle.loads(pickle.dumps(Evil(made)))
    finally:
        assert made.exists()  # so that this test can fail


@needs_torch
def test_whole_modules_and_scripts_are_refused(tmp_path):
    import torch

    torch.save(torch.nn.Linear(2, 3), tmp_path / "module.pt")
    with pytest.raises(UserError, match=r"holds Python objects \(torch\.nn\.\S*Linear\).*state_di"):
        read_arrays(tmp_path / "module.pt")
    torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(UserError, match="TorchScript"):
        read_arrays(tmp_path / "script.pt")


@needs_torch
def test_releases_that_run_code_are_refused(tmp_path, monkeypatch):
    import torch

    torch.save({"w": torch.ones(2)}, tmp_path / "w.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    with pytest.raises(UserError, match=r"w\.pt: torch 2\.5\.1\+cu124 can run code of a file even"):
        read_arrays(tmp_path / "w.pt")


@needs_torch
def test_numbers_of_eight_bits_are_kept(tmp_path):
    import torch

    for name in ("float8_e4m3fn", "float8_e5m2"):
        eight = torch.arange(4.0).to(getattr(torch, name))
        torch.save({"w": eight}, tmp_path / name)
        found = read_arrays(tmp_path / name)[0]
        assert found["w"].dtype == jnp.dtype(name)
        np.testing.assert_array_equal(found["w"].astype("f4"), [0, 1, 2, 3])
        write_arrays(tmp_path / "again.pt", found)
        assert torch.equal(torch.load(tmp_path / "again.pt")["w"].float(), eight.float())


@needs_torch
def test_checkpoints_hold_one_network_or_say_which(tmp_path):
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state, path = module.state_dict(), tmp_path / "checkpoint.pth"
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 2)).sum().backward()
    optimizer.step()
    for key in ("state_dict", "model", "model_state_dict"):
        torch.save({key: state, "optimizer": optimizer.state_dict(), "epoch": 3}, path)
        arrays, others = read_arrays(path)
        assert set(arrays) == set(state) - {"1.num_batches_tracked"}
        assert others == {"epoch": 3, "1.num_batches_tracked": 1}
    torch.save({"model": state, "ema": state, "best": 0.5}, path)
    with pytest.raises(UserError, match="several networks, 'model', 'ema'; say which, by `key`"):
        read_arrays(path)
    assert len(read_arrays(path, key="ema")[0]) == 6
    with pytest.raises(UserError, match="no arrays under 'emma'; it has 'ema', 'model'"):
        read_arrays(path, key="emma")
    torch.save({"encoder": {"w": torch.ones(2)}, "model": [torch.ones(3)]}, path)
    assert set(read_arrays(path)[0]) == {"encoder.w", "model.0"}
    # A module may be named as checkpoints name theirs.
    torch.save({"model.weight": torch.ones(2), "model.bias": torch.ones(1)}, path)
    assert set(read_arrays(path)[0]) == {"model.weight", "model.bias"}


@needs_torch
def test_tensors_that_are_no_plain_arrays_are_refused(tmp_path):
    import torch

    for name, tensor, why in [
        ("sparse", torch.eye(3).to_sparse(), "not dense"),
        ("meta", torch.empty(3, device="meta"), "not dense"),
        ("huge", torch.ones(1).expand(10**6, 10**6), "claims more entries than it holds"),
    ]:
        torch.save({"w": tensor}, tmp_path / name)
        with pytest.raises(UserError, match=why):
            read_arrays(tmp_path / name)
    views = torch.arange(6.0).reshape(2, 3)
    torch.save({"w": views.T, "p": torch.nn.Parameter(views[:, 1])}, tmp_path / "views")
    found, _ = read_arrays(tmp_path / "views")
    np.testing.assert_array_equal(found["w"], views.numpy().T)
    np.testing.assert_array_equal(found["p"], [1, 4])


def test_modules_of_equinox_give_their_leaves_names(tmp_path):
    module = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
    eqx.tree_serialise_leaves(tmp_path / "net.eqx", module)
    like = eqx.filter_eval_shape(eqx.nn.MLP, 2, 1, 3, 1, key=jax.random.key(0))
    for each in (module, like):
        found, _ = read_arrays(tmp_path / "net.eqx", like=each)
        assert found.keys() >= {"layers.0.weight", "layers.1.bias"}
        np.testing.assert_array_equal(found["layers.0.weight"], module.layers[0].weight)
    other = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
    with pytest.raises(UserError, match=r"other shapes than those of `like`: 'layers\.0\.weight'"):
        read_arrays(tmp_path / "net.eqx", like=other)
    eqx.tree_serialise_leaves(tmp_path / "few.eqx", [jnp.ones(3)])
    with pytest.raises(UserError, match="it holds 1 leaves, and `like` has"):
        read_arrays(tmp_path / "few.eqx", like=module)


def test_steps_of_orbax_managers_are_read(tmp_path):
    tree = {"params": {"w": jnp.ones(3)}}
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(5, args=ocp.args.StandardSave(tree))
    assert set(read_arrays(tmp_path / "run" / "5")[0]) == {"params.w"}
    two = ocp.args.Composite(a=ocp.args.StandardSave(tree), b=ocp.args.StandardSave(tree))
    with ocp.CheckpointManager(tmp_path / "two") as manager:
        manager.save(0, args=two)
    assert set(read_arrays(tmp_path / "two" / "0")[0]) == {"a.params.w", "b.params.w"}
    assert set(read_arrays(tmp_path / "two" / "0", key="b.params")[0]) == {"w"}


def zipped(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return content.getvalue()


REFUSED = {
    "empty": (b"", "it is empty"),
    "text": (b"hello, world", "of no format that is read here"),
    "archive": (zipped("a.pt", "b.npy"), "unpack it, and give the folder"),
    "gzip": (gzip.compress(b"x"), "unpack it, and give the folder"),
    "cut zip": (zipped("a.pt")[:20], "a zip file without its end"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_file_of_weights_is_refused_in_one_sentence(name, tmp_path):
    content, why = REFUSED[name]
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(UserError, match=why) as caught:
        read_arrays(tmp_path / "net.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'net.pt'}: ")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="it is a folder; `load_networks` and `examine` read"):
        read_arrays(tmp_path)
    with pytest.raises(MissingFile, match=r"there is no .*net\.pt; check the path"):
        read_arrays(tmp_path / "net.pt")


@pytest.mark.parametrize("module", ["torch", "h5py"])
def test_a_missing_library_is_named_with_its_remedy(module, tmp_path, monkeypatch):
    kind = {"torch": "torch", "h5py": "hdf5"}[module]
    if kind not in WRITTEN:
        pytest.skip(f"{module} is not installed")
    WRITTEN[kind](tmp_path / "w", drawn())
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UserError, match=rf"{module} is not installed; `pip install 'wfm\[io\]'`"):
        read_arrays(tmp_path / "w")


@pytest.mark.skipif(not there("h5py"), reason="h5py is not installed")
def test_hdf5_that_points_elsewhere_or_claims_is_refused(tmp_path):
    import h5py

    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(64))
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("w", (16,), "f4", external=[(str(secret), 0, 64)])
    with pytest.raises(UserError, match="'w' is kept in other files"):
        read_arrays(tmp_path / "outside.h5")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("w", (10**6, 10**7), "f4", chunks=(100, 100))
    with pytest.raises(UserError, match="'w' was never written"):
        read_arrays(tmp_path / "huge.h5")
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["w"] = np.array([b"a", b"bc"])
    with pytest.raises(UserError, match=r"'w' holds .*no array of numbers"):
        read_arrays(tmp_path / "text.h5")
    with h5py.File(tmp_path / "good.h5", "w") as file:
        file["net_0/w"], file["zeros"] = np.ones(3), np.ones(0)
        file.create_dataset("packed", data=np.zeros((1000, 1000), "f4"), compression="gzip")
        file["net_0"].attrs["accuracy"], file.attrs["task"] = 0.5, "iris"
    found, others = read_arrays(tmp_path / "good.h5")
    assert {n: a.shape for n, a in found.items()} == {
        "net_0.w": (3,),
        "zeros": (0,),
        "packed": (1000, 1000),
    }
    assert others == {"net_0.accuracy": 0.5, "task": "iris"}
