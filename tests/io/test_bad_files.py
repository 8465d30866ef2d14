"""Files that cannot be used are named with the reason."""

import re

import numpy as np
import pytest

from tests.io.torch_nets import (
    LAYOUT,
    SPEC,
    WIDTHS,
    dense_layout,
    folder_of,
    networks,
    torch_mlp,
    vectors,
)
from wfm.errors import MissingFile, UserError
from wfm.io import examine, load_networks, write_arrays

torch = pytest.importorskip("torch")


def other_files(folder):
    """One file of each kind that cannot be used, by what is said of it."""
    good = torch_mlp(*WIDTHS, seed=0).state_dict()
    torch.save(torch_mlp(4, 6, 6, 3).state_dict(), folder / "a_other.pt")
    torch.save(torch_mlp(4, 5, 3).state_dict(), folder / "b_fewer.pt")
    torch.save(good | {"6.weight": torch.ones(2)}, folder / "c_more.pt")
    torch.save(good | {"2.bias": good["2.bias"] * torch.nan}, folder / "d_nan.pt")
    torch.save(good | {"2.bias": torch.ones(5, dtype=torch.int64)}, folder / "e_whole.pt")
    torch.save(torch_mlp(*WIDTHS), folder / "f_module.pt")
    content = (folder / "net_0.pt").read_bytes()
    (folder / "g_cut.pt").write_bytes(content[: len(content) // 2])
    torch.save(good | {"2.bias": good["2.bias"].double() * 1e300}, folder / "h_large.pt")
    (folder / "i_text").write_text("hello")
    return {
        "a_other.pt": r"'0\.weight' has shape \(6, 4\), and \(5, 4\) is expected",
        "b_fewer.pt": r"missing '4\.bias', '4\.weight', unknown none",
        "c_more.pt": r"missing none, unknown '6\.weight'",
        "d_nan.pt": "it has NaN or infinite weights",
        "e_whole.pt": "'dense2.bias' holds int64, and weights are floating-point numbers",
        "f_module.pt": "it holds Python objects",
        "g_cut.pt": "a zip file without its end",
        "h_large.pt": "it has NaN or infinite weights",
        "i_text": "of no format that is read here",
    }


def test_files_that_cannot_be_used_are_named_with_the_reason(tmp_path):
    folder = tmp_path / "zoo"
    folder_of(folder, 12)
    said = other_files(folder)
    with pytest.raises(
        UserError, match=r"zoo: 9 of its networks cannot be used \(a_other"
    ) as caught:
        load_networks(folder, SPEC, LAYOUT)
    assert "c_more" in str(caught.value) and "d_nan" not in str(caught.value)
    assert len(load_networks(folder, SPEC, LAYOUT, vectors(), skip_bad=True)) == 12
    found = examine(folder, SPEC, LAYOUT)
    assert found.count == 12 and found.kind == "folder"
    assert [name for name, _ in found.bad] == list(said)
    for (_, reason), pattern in zip(found.bad, said.values(), strict=True):
        assert re.search(pattern, reason), reason
    assert str(found).count("\n") == 6 + len(said)


def test_what_is_wrong_with_all_files_is_said_once(tmp_path):
    folder = tmp_path / "zoo"
    folder_of(folder, 12)
    with pytest.raises(UserError, match="none of its 12 networks can be used") as caught:
        load_networks(folder, SPEC, skip_bad=True)
    said = str(caught.value)
    assert "net_0.pt: its arrays are not those of this layout" in said and "net_1" not in said
    assert "; and 11 more); check the network and `layout`" in said


def test_without_a_network_most_files_say_what_is_usual(tmp_path):
    folder = tmp_path / "zoo"
    folder_of(folder, 12)
    other_files(folder)
    (folder / "net_3.json").write_text('{"loss": 0.5}')
    found = examine(folder)
    assert found.count == 12
    assert found.arrays["2.weight"] == "float32 (5, 5)"
    assert found.metrics == {"loss": (0.5, 0.5)}
    bad = dict(found.bad)
    # An infinite number is one only in the working precision.
    assert "it is another network than most files here" in bad["h_large.pt"]
    assert bad["b_fewer.pt"].endswith(
        "it has '2.bias (3,) float32', '2.weight (3, 5) float32', and they have '2.bias', "
        "'2.weight', '4.bias' and 1 more otherwise"
    )
    assert len(bad) == 9


def test_a_folder_with_nothing_good_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no files of networks$"):
        load_networks(tmp_path / "empty", SPEC)
    with pytest.raises(UserError, match=r"empty holds no files of networks$"):
        examine(tmp_path / "empty")
    with pytest.raises(
        UserError, match="holds no files of networks; give one of its folders, such"
    ):
        load_networks(tmp_path, SPEC)
    with pytest.raises(MissingFile, match=r"there is no .*nowhere"):
        load_networks(tmp_path / "nowhere", SPEC)
    (tmp_path / "empty" / "a.pt").write_bytes(b"")
    for skip_bad in (False, True):
        with pytest.raises(UserError, match=r"empty: it is empty$"):
            load_networks(tmp_path / "empty", SPEC, skip_bad=skip_bad)
    (tmp_path / "empty" / "a.json").write_text("[" * 10**5)
    with pytest.raises(UserError, match=r"a\.json beside it is no JSON"):
        load_networks(tmp_path / "empty", SPEC)


def test_layouts_are_of_the_network(tmp_path):
    folder_of(tmp_path / "zoo", 1)
    with pytest.raises(UserError, match=r"it lacks 'dense3\.bias'.*, and names none besides"):
        load_networks(tmp_path / "zoo", SPEC, dense_layout(4, 5, 5))
    with pytest.raises(
        UserError, match=r"'dense1\.kernel' has shape \(4, 6\), and in this network"
    ):
        load_networks(tmp_path / "zoo", SPEC, dense_layout(4, 6, 5, 3))
    with pytest.raises(UserError, match=r"missing .*'dense1\.bias'"):
        load_networks(tmp_path / "zoo", SPEC)


def test_arrays_of_unequal_numbers_of_networks_are_refused(tmp_path):
    weights = networks(3)
    write_arrays(tmp_path / "a.pt", weights | {"dense1.bias": weights["dense1.bias"][:2]})
    with pytest.raises(UserError, match=r"a\.pt: its arrays hold unequal numbers of networks"):
        load_networks(tmp_path / "a.pt", SPEC)
    write_arrays(tmp_path / "a.pt", weights | {"dense1.bias": weights["dense1.bias"][0]})
    with pytest.raises(UserError, match="unequal numbers of networks"):
        load_networks(tmp_path / "a.pt", SPEC)
    write_arrays(tmp_path / "a.pt", weights | {"step": np.arange(2)})
    with pytest.raises(UserError, match="it holds 3 networks, and 'step' not as many numbers"):
        load_networks(tmp_path / "a.pt", SPEC)
    write_arrays(tmp_path / "a.pt", weights | {"bn.num_batches_tracked": np.arange(3)})
    with pytest.raises(UserError, match=r"unknown 'bn\.num_batches_tracked'"):
        load_networks(tmp_path / "a.pt", SPEC)
    assert len(load_networks(tmp_path / "a.pt", SPEC, ignore=["*num_batches_tracked"])) == 3
