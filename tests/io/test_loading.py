"""Networks from files and folders: what PyTorch computes is computed, and the bad are named."""

import dataclasses
import json
import re
import time
import tomllib
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.io.torch_nets import (
    CONV,
    CONV_LAYOUT,
    LAYOUT,
    SPEC,
    WIDTHS,
    dense_layout,
    folder_of,
    images,
    networks,
    same,
    torch_conv,
    torch_mlp,
    torch_outputs,
    vectors,
)
from tests.io.written import WRITTEN, there
from wfm.errors import UserError
from wfm.io import Stored, examine, load_networks, write_arrays
from wfm.io.load import Stack
from wfm.weights import Canonical, mlp
from wfm.weights.layout import to_stored
from wfm.zoo import WeightSet

torch = pytest.importorskip("torch")


def test_a_folder_of_pytorchs_files_computes_what_pytorch_does(tmp_path):
    modules = folder_of(tmp_path / "zoo", 12)
    outputs = torch_outputs(modules, vectors())
    zoo = load_networks(tmp_path / "zoo", SPEC, LAYOUT, vectors(), outputs)
    found = jax.vmap(SPEC.outputs, (0, None))(zoo.weights, jnp.asarray(vectors()))
    np.testing.assert_allclose(found, outputs, atol=1e-5)  # in their order: 9, 10, 11 are last
    assert zoo.trajectory.tolist() == list(range(12))
    assert zoo.step.tolist() == [0] * 12


def test_pixels_of_a_flattened_convolution_are_where_they_were(tmp_path):
    modules = [torch_conv(i) for i in range(3)]
    outputs = torch_outputs(modules, images())
    (tmp_path / "zoo").mkdir()
    for i, each in enumerate(modules):
        torch.save(each.state_dict(), tmp_path / "zoo" / f"{i}.pth")
    load_networks(tmp_path / "zoo", CONV, CONV_LAYOUT, images(), outputs)
    # The flattening of channels first, but read as of channels last: all shapes fit.
    wrong = dataclasses.replace(CONV_LAYOUT["fc.kernel"], split=(5, 4, 4, 3), order=(1, 2, 3, 0))
    layout = CONV_LAYOUT | {"fc.kernel": wrong}
    with pytest.raises(UserError, match="do not compute the outputs given"):
        load_networks(tmp_path / "zoo", CONV, layout, images(), outputs)


def test_a_transposed_square_kernel_does_not_pass(tmp_path):
    modules = folder_of(tmp_path / "zoo", 3)
    outputs = torch_outputs(modules, vectors())
    layout = LAYOUT | {"dense2.kernel": Stored("2.weight", (5, 5), (0, 1))}
    with pytest.raises(UserError, match=r"zoo: the weights do not compute the outputs given"):
        load_networks(tmp_path / "zoo", SPEC, layout, vectors(), outputs)


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize("kind", WRITTEN)
def test_one_file_of_any_format_holds_one_network_or_many(kind, stack, tmp_path):
    weights = networks(4 if stack else 1)
    arrays = to_stored(LAYOUT, weights if stack else {n: a[0] for n, a in weights.items()})
    arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    layout, spec = LAYOUT, SPEC
    if kind == "equinox":
        numbers = {name: str(i) for i, name in enumerate(arrays)}
        layout = {
            n: dataclasses.replace(place, name=numbers[place.name]) for n, place in LAYOUT.items()
        }
    WRITTEN[kind](tmp_path / "zoo", arrays)
    zoo = load_networks(tmp_path / "zoo", spec, layout, vectors())
    same(zoo, weights)
    assert len(zoo) == len(weights["dense1.bias"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_all_precisions_become_one_in_which_norms_are_1(dtype, tmp_path):
    weights = networks(3)
    folder = tmp_path / "zoo"
    folder.mkdir()
    for i in range(3):
        each = {n: a[i].astype(dtype if i else "f4") for n, a in weights.items()}
        write_arrays(folder / f"{i}.pt", to_stored(LAYOUT, each))
    zoo = load_networks(folder, SPEC, LAYOUT, vectors())
    assert {a.dtype for a in zoo.weights.values()} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(
        zoo.weights["dense1.bias"][1:], weights["dense1.bias"][1:].astype(dtype).astype("f4")
    )
    form = Canonical(SPEC)
    kernel = jax.vmap(form.encode)(zoo.weights)["dense1.kernel"]
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=1), 1, atol=1e-6)
    with jax.enable_x64(True):
        wide = load_networks(folder, SPEC, LAYOUT)
    assert wide.weights["dense1.bias"].dtype == ("float64" if dtype == "float64" else "float32")


def test_figures_beside_files_are_those_of_their_networks(tmp_path):
    folder_of(tmp_path / "zoo", 11)
    for i in range(10):
        about = {"test": {"accuracy": i / 16}, "trajectory": f"run {i // 2}", "step": 10 * i}
        about |= {"optimizer": "adam", "huge": 10**400}
        (tmp_path / "zoo" / f"net_{i}.json").write_text(json.dumps(about))
    (tmp_path / "zoo" / "README.md").write_text("Of my own.")
    zoo = load_networks(tmp_path / "zoo", SPEC, LAYOUT)
    assert zoo.trajectory.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert zoo.step.tolist() == [*range(0, 100, 10), 0]
    assert set(zoo.metrics) == {"test.accuracy", "huge"}
    np.testing.assert_array_equal(zoo.metrics["test.accuracy"][:10], np.arange(10) / 16)
    assert np.isnan(zoo.metrics["test.accuracy"][10])
    seen, held_out = zoo.split(0.5)
    assert not set(seen.trajectory.tolist()) & set(held_out.trajectory.tolist())
    late = load_networks(tmp_path / "zoo", SPEC, LAYOUT, where=lambda net: net.step >= 50)
    assert late.step.tolist() == [50, 60, 70, 80, 90]
    with pytest.raises(UserError, match="no network in it is one that `where` takes"):
        load_networks(tmp_path / "zoo", SPEC, LAYOUT, where=lambda net: net.step > 90)


def test_a_table_beside_files_names_them(tmp_path):
    folder_of(tmp_path / "zoo", 3)
    table = tmp_path / "zoo" / "metrics.csv"
    table.write_text("loss,file,seed,step\n0.5,net_2.pt,x,7\n0.25,net_0,y,8\n")
    zoo = load_networks(tmp_path / "zoo", SPEC, LAYOUT)
    np.testing.assert_array_equal(zoo.metrics["loss"], [0.25, np.nan, 0.5])
    assert zoo.step.tolist() == [8, 0, 7]
    table.write_text("loss,which\n0.5,net_2.pt\n")
    with pytest.raises(UserError, match="has no column for the file that a row is about"):
        load_networks(tmp_path / "zoo", SPEC, LAYOUT)
    table.write_text("loss,file\n0.5,net_2\n0.5,net_2\n")
    with pytest.raises(UserError, match="several rows for one file"):
        load_networks(tmp_path / "zoo", SPEC, LAYOUT)
    table.write_bytes(b"loss,file\n0.5\n")
    with pytest.raises(UserError, match=r"metrics\.csv is damaged"):
        load_networks(tmp_path / "zoo", SPEC, LAYOUT)


def test_what_a_checkpoint_says_of_itself_is_kept(tmp_path):
    (tmp_path / "zoo").mkdir()
    for i in range(3):
        state = torch_mlp(*WIDTHS, seed=i).state_dict()
        checkpoint = {"state_dict": state, "step": 5 * i, "loss": 0.5 * i, "note": "mine"}
        torch.save(checkpoint, tmp_path / "zoo" / f"{i}.ckpt")
    zoo = load_networks(tmp_path / "zoo", SPEC, LAYOUT)
    assert zoo.step.tolist() == [0, 5, 10]
    assert zoo.metrics["loss"].tolist() == [0, 0.5, 1]


@pytest.mark.skipif(not there("h5py"), reason="h5py is not installed")
def test_groups_of_hdf5_are_networks_each(tmp_path):
    import h5py

    weights = networks(11)
    with h5py.File(tmp_path / "zoo.h5", "w") as file:
        for i in range(11):
            for name, a in weights.items():
                file[f"zoo/net_{i}/{name.replace('.', '/')}"] = a[i]
            file[f"zoo/net_{i}"].attrs.update({"accuracy": i / 16, "step": i, "trajectory": "a"})
    zoo = load_networks(tmp_path / "zoo.h5", SPEC, inputs=vectors())
    same(zoo, weights)
    assert zoo.metrics["accuracy"].tolist() == [i / 16 for i in range(11)]
    assert zoo.step.tolist() == list(range(11))
    assert zoo.trajectory.tolist() == [0] * 11
    with h5py.File(tmp_path / "zoo.h5", "a") as file:
        del file["zoo/net_4/dense1/bias"]
        file["zoo/net_7/dense1/bias"][0] = np.nan
    found = examine(tmp_path / "zoo.h5", SPEC)
    assert [name for name, _ in found.bad] == ["zoo.h5 zoo.net_4", "zoo.h5 zoo.net_7"]
    assert len(load_networks(tmp_path / "zoo.h5", SPEC, skip_bad=True)) == 9


def test_what_is_below_one_name_is_found_and_of_several_one_is_chosen(tmp_path):
    state = torch_mlp(*WIDTHS).state_dict()
    other = torch_mlp(*WIDTHS, seed=1).state_dict()

    def load(content, **options):
        torch.save(content, tmp_path / "net.pt")
        return load_networks(tmp_path / "net.pt", SPEC, LAYOUT, **options)

    parallel = {f"module.{name}": a for name, a in state.items()}  # of `DataParallel`
    assert len(load(parallel)) == len(load({"state_dict": parallel, "epoch": 3})) == 1
    assert len(load({f"nets.{i}": each for i, each in enumerate([state, other])})) == 2
    assert len(load({"nets": [state, other]})) == 2
    for key in ("net", "ema"):
        both = load({"net": state, "ema": other}, key=key)
        bias = {"net": state, "ema": other}[key]["0.bias"]
        np.testing.assert_array_equal(both.weights["dense1.bias"][0], bias.numpy())
    with pytest.raises(UserError, match=r"under 'ema', 'net'; say by `key` which to read"):
        load({"net": state, "ema": other})
    with pytest.raises(UserError, match="several networks, 'model', 'ema'; say which, by `key`"):
        load({"model": state, "ema": other})


@pytest.mark.parametrize("kind", [kind for kind in ("npz", "hdf5") if kind in WRITTEN])
def test_vectors_of_each_split_are_networks_in_the_order_of_the_layout(kind, tmp_path):
    weights = networks(4)
    stored = to_stored(LAYOUT, weights)
    rows = np.concatenate([stored[p.name].reshape(4, -1) for p in LAYOUT.values()], 1)
    WRITTEN[kind](tmp_path / "zoo", {"train": rows, "val": rows[:1] + 1, "step": np.arange(4)})
    zoo = load_networks(tmp_path / "zoo", SPEC, LAYOUT, flat="train")
    same(zoo, weights)
    assert zoo.step.tolist() == [0, 1, 2, 3]
    with pytest.raises(UserError, match="holds no array 'test'; it has 'train', 'val'"):
        load_networks(tmp_path / "zoo", SPEC, LAYOUT, flat="test")
    with pytest.raises(UserError, match="if 'train' holds whole networks, say so by `flat`"):
        load_networks(tmp_path / "zoo", SPEC, LAYOUT)
    with pytest.raises(UserError, match="networks of 43 weights are vectors of this length"):
        other = dense_layout(4, 5, 3)
        load_networks(tmp_path / "zoo", mlp(4, 5, 3), other, flat="train")


def test_zoos_of_ours_are_read_with_all_they_hold(tmp_path):
    weights = networks(4)
    start = networks(2, seed=1)
    known = {"trajectory": [0, 1, 0, 1], "step": [1, 1, 2, 2], "metrics": {"loss": np.arange(4.0)}}
    zoo = WeightSet.of(weights, SPEC, **known, initial=start)
    zoo.save(tmp_path / "zoo.safetensors")
    found = load_networks(tmp_path / "zoo.safetensors", SPEC)
    jax.tree.map(np.testing.assert_array_equal, found, zoo)
    content = bytearray((tmp_path / "zoo.safetensors").read_bytes())
    content[-2] ^= 1
    (tmp_path / "zoo.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="altered or damaged since its zoo was saved"):
        load_networks(tmp_path / "zoo.safetensors", SPEC)


def test_progress_is_shown_by_whoever_wants_it(tmp_path):
    folder_of(tmp_path / "zoo", 3)
    seen = []

    def track(entries):
        for entry in entries:
            seen.append(f"{entry.name} of {len(entries)}")
            yield entry

    load_networks(tmp_path / "zoo", SPEC, LAYOUT, track=track)
    assert seen == [f"net_{i}.pt of 3" for i in range(3)]


def test_networks_are_held_once(tmp_path):
    spec, n = mlp(256, 256, 2), 40
    layout = dense_layout(256, 256, 2)
    (tmp_path / "zoo").mkdir()
    for i in range(n):
        stored = {p.name: np.ones(p.shape, "f4") for p in layout.values()}
        write_arrays(tmp_path / "zoo" / f"{i}.npz", stored, "npz")
    tracemalloc.start()
    load_networks(tmp_path / "zoo", spec, layout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.8 * 4 * n * spec.n_weights  # one copy, and checks of finite numbers
    stack = Stack(1)
    for _ in range(n):
        stack.add({"a": np.ones((1, 100), "f4")})
    room = stack.arrays["a"]
    found = stack.finish()["a"]
    assert found.shape == (n, 100)
    assert found.unsafe_buffer_pointer() == room.ctypes.data  # JAX took it over


@pytest.mark.slow
def test_a_thousand_files_take_seconds(tmp_path):
    widths = (30, 16, 16, 2)
    folder_of(tmp_path / "zoo", 1000, sizes=widths)
    start = time.perf_counter()
    zoo = load_networks(tmp_path / "zoo", mlp(*widths), dense_layout(*widths), np.ones((3, 30)))
    assert time.perf_counter() - start < 10
    assert len(zoo) == 1000


def test_optional_libraries_are_those_of_the_extra():
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = [
        re.findall(r'import_module\("(\w+)"\)', path.read_text())
        for path in (root / "wfm" / "io").glob("*.py")
    ]
    assert {re.match(r"\w+", each)[0] for each in extras["io"]} == {
        n for names in named for n in names
    }
