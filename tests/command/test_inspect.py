"""`wfm inspect` says what there is, in a sentence each."""

import pickle
import shutil
import zipfile

import numpy as np
import pytest

from tests.io.torch_nets import WIDTHS, folder_of, networks, torch_mlp
from wfm.io import write_arrays

TORCH = ("--network", "mlp:4,5,5,3", "--layout", "torch:dense1=0,dense2=2,dense3=4")


BAD = {
    "a_cut.pt": "a zip file without its end",
    "b_other.pt": "another network than most files here",
    "c_nan.pt": "NaN or infinite entries",
    "d_code.pt": "reading it can run code",
    "e_code.pt": "reading those can run code",
}


class Executes:
    """A pickle of this makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def zoo(tmp_path):
    torch = pytest.importorskip("torch")
    folder = tmp_path / "zoo"
    folder_of(folder, 4)
    good = (folder / "net_0.pt").read_bytes()
    (folder / "a_cut.pt").write_bytes(good[: len(good) // 2])
    torch.save(torch_mlp(4, 6, 6, 3).state_dict(), folder / "b_other.pt")
    bad = torch_mlp(*WIDTHS).state_dict()
    bad["0.bias"] = bad["0.bias"] * torch.nan
    torch.save(bad, folder / "c_nan.pt")
    (folder / "d_code.pt").write_bytes(pickle.dumps(Executes(tmp_path / "executed")))
    torch.save(Executes(tmp_path / "executed"), folder / "e_code.pt")
    return folder


def test_each_bad_file_is_told_in_one_line(zoo, wfm, tmp_path):
    (zoo / "metrics.csv").write_text("file,accuracy\nnet_0.pt,0.5\nnet_1.pt,0.75\n")
    said = wfm("inspect", zoo)
    assert f"{zoo}: folder, 4 usable in 4 trajectories, 5 bad" in said
    assert "0.weight: float32 (5, 4)" in said
    assert "accuracy: 0.5 to 0.75" in said
    lines = [line for line in said.splitlines() if line.startswith("  bad: ")]
    assert len(lines) == len(BAD)
    for name, why in BAD.items():
        assert any(name in line and why in line for line in lines), name
    assert not (tmp_path / "executed").exists()


def test_with_a_network_its_symmetries_are_told(zoo, wfm, tmp_path):
    said = wfm("inspect", zoo, *TORCH)
    assert "4 usable in 4 trajectories, 5 bad" in said
    assert "h1   5 neurons: in any order" in said
    assert not (tmp_path / "executed").exists()


def test_what_cannot_be_used_at_all_is_one_sentence(zoo, refused, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} holds no files of networks" in refused("inspect", empty)
    packed = tmp_path / "zoo.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(zoo / "net_0.pt", "net_0.pt")
    assert "an archive of files; unpack it" in refused("inspect", packed)
    code = refused("inspect", zoo / "d_code.pt")
    assert BAD["d_code.pt"] in code and not (tmp_path / "executed").exists()
    for path in zoo.glob("net_*"):
        path.unlink()
    (zoo / "b_other.pt").unlink()
    assert "none of the 4 files of" in refused("inspect", zoo)


def test_a_wrong_layout_is_named(zoo, refused):
    for path in zoo.glob("[a-e]_*"):
        path.unlink()
    assert "none of the 4 files" in refused("inspect", zoo, "--network", "mlp:4,5,5,3")
    said = refused("learn", zoo, "--network", "mlp:4,5,5,3", "--out", zoo / "flow.zip")
    assert "none of its 4 networks can be used" in said and "check --network and --layout" in said
    shutil.rmtree(zoo)
    write_arrays(zoo, {n: a[0] for n, a in networks().items()}, "npz")
    said = refused("inspect", zoo, "--network", "mlp:4,5,6,3")
    assert "has shape (5, 5), and (5, 6) is expected" in said


def test_a_file_with_many_networks(wfm, tmp_path):
    path = tmp_path / "zoo.npz"
    write_arrays(path, networks(7) | {"trajectory": np.arange(7) // 2}, "npz")
    assert "7 usable in 4 trajectories" in wfm("inspect", path, "--network", "mlp:4,5,5,3")
