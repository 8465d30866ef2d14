"""Flows as one file: the same again, from a path or a URL, or one sentence that says why not."""

import hashlib
import stat
import warnings
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import pytest

from tests.flows.test_files import velocity_flow
from wfm import UserError, downloads, load_flow
from wfm.artefacts import archive
from wfm.flows import about

URL = "https://example.org/flows/a.zip"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.zip"
    velocity_flow().save(path, {"task": "iris"})
    return path


def test_a_flow_comes_back_from_one_file(saved):
    assert eqx.tree_equal(load_flow(saved), velocity_flow())
    assert about(str(saved)) == {"task": "iris"}
    assert [path.name for path in saved.parent.iterdir()] == ["a.zip"]


def test_the_same_flow_has_the_same_bytes(saved, tmp_path):
    velocity_flow().save(tmp_path / "b.zip", {"task": "iris"})
    assert saved.read_bytes() == (tmp_path / "b.zip").read_bytes()
    velocity_flow().save(tmp_path / "folder", {"task": "iris"})
    with zipfile.ZipFile(saved) as archive:
        for path in (tmp_path / "folder").iterdir():
            assert archive.read(path.name) == path.read_bytes()


def test_an_archive_is_replaced_and_nothing_else_is(saved, tmp_path):
    other = jax.tree.map(lambda a: a + 1, velocity_flow())
    other.save(saved)
    assert eqx.tree_equal(load_flow(saved), other)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("data.csv", "1")
    with pytest.raises(UserError, match=r"data.zip holds 'data.csv', which a saved artefact does"):
        other.save(tmp_path / "data.zip")
    (tmp_path / "text.zip").write_text("notes")
    with pytest.raises(UserError, match=r"text.zip is damaged or no zip file"):
        other.save(tmp_path / "text.zip")
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(UserError, match=r"folder.zip is a folder where a file is to be"):
        other.save(tmp_path / "folder.zip")


def members(path):
    with zipfile.ZipFile(path) as archive:
        return [(member, archive.read(member)) for member in archive.infolist()]


def rewritten(path, change, method=zipfile.ZIP_STORED):
    """The archive again, with its members changed."""
    changed = [change(*member) for member in members(path)]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # of zipfile, of two members of one name
        for info, content in (pair for pairs in changed for pair in pairs):
            archive.writestr(info, content, method)


def with_more(name):
    def change(path):
        rewritten(path, lambda info, content: [(info, content), (zipfile.ZipInfo(name), b"!")])

    return change


def linked(path):
    def change(info, content):
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        return [(info, b"/etc/passwd")]

    rewritten(path, change)


def patched(path, at, value):
    """The archive with bytes changed in every entry of its directory, `at` bytes from its start."""
    data = bytearray(path.read_bytes())
    start = data.find(b"PK\1\2")
    while start >= 0:
        data[start + at : start + at + len(value)] = value
        start = data.find(b"PK\1\2", start + 4)
    path.write_bytes(data)


def as_is(info, content):
    return [(info, content)]


HOSTILE = {
    "a way out": (with_more("../../evil"), "holds '../../evil', which a saved artefact does not"),
    "an absolute name": (with_more("/etc/cron.d/evil"), "holds '/etc/cron.d/evil', which"),
    "another file": (with_more("code.pkl"), "holds 'code.pkl', which a saved artefact does not"),
    "twice": (with_more("flow.json"), "holds 'flow.json', which .* or not twice"),
    "in a folder": (
        lambda path: rewritten(path, lambda i, c: [(zipfile.ZipInfo(f"a/{i.filename}"), c)]),
        "holds 'a/flow.json', which",
    ),
    "a link": (linked, "holds a link, 'flow.json'"),
    "encrypted": (lambda path: patched(path, 8, b"\1\0"), "is encrypted; unpack it"),
    "another method": (lambda p: rewritten(p, as_is, zipfile.ZIP_LZMA), "in an unusual way"),
    "a bomb": (lambda p: patched(p, 24, b"\xff\xff\xff\x7f"), r"unpacks to 4,294,967,294 bytes"),
    "a lie": (lambda path: patched(path, 24, b"\x10\0\0\0"), "a.zip is damaged or no zip file"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-30]), "damaged or no zip file"),
    "half": (lambda p: p.write_bytes(p.read_bytes()[:900]), "damaged or no zip file"),
    "empty": (lambda path: path.write_bytes(b""), "damaged or no zip file"),
    "another bit": (
        lambda p: p.write_bytes(p.read_bytes().replace(b'"radius": 1', b'"radius": 2')),
        "damaged or no zip file",
    ),
    "a web page": (lambda path: path.write_text("<html>404"), "damaged or no zip file"),
    "nothing": (lambda path: rewritten(path, lambda i, c: []), "flow.json is missing"),
    "no arrays": (
        lambda path: rewritten(path, lambda i, c: [(i, c)] * (i.filename == "flow.json")),
        "parameters.safetensors is missing; copy the artefact as a whole",
    ),
    "not there": (Path.unlink, "there is no .*a.zip; check the path"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_archives(name, saved):
    change, message = HOSTILE[name]
    change(saved)
    before = sorted(saved.parent.iterdir())
    with pytest.raises(UserError, match=message) as error:
        load_flow(saved)
    assert "\n" not in str(error.value)
    assert sorted(saved.parent.iterdir()) == before


def test_an_archive_may_be_deflated_by_other_tools(saved):
    rewritten(saved, as_is, zipfile.ZIP_DEFLATED)
    assert eqx.tree_equal(load_flow(saved), velocity_flow())


def test_the_limit_is_on_what_is_unpacked(saved, monkeypatch):
    rewritten(saved, lambda i, c: [(i, c + b" " * 10**6)], zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(archive, "LARGEST", 10**6)
    assert saved.stat().st_size < 10**5
    with pytest.raises(UserError, match=r"more than the 1,000,000 that are read"):
        load_flow(saved)


@pytest.fixture
def served(saved, tmp_path, monkeypatch):
    """`saved` at `URL`, and its checksum."""
    monkeypatch.setattr(downloads.pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    asked = []

    def get(url, to, pooch, check_only=False):
        asked.append(url)
        Path(to).write_bytes(saved.read_bytes())

    monkeypatch.setattr(downloads.pooch.core, "choose_downloader", lambda *_, **__: get)
    return hashlib.sha256(saved.read_bytes()).hexdigest(), asked


def test_a_flow_is_downloaded_once(served):
    checksum, asked = served
    for form in (checksum, checksum.upper()):
        assert eqx.tree_equal(load_flow(f"{URL}#sha256={form}"), velocity_flow())
    assert about(f"{URL}#sha256={checksum}") == {"task": "iris"}
    assert asked == [URL]


@pytest.mark.parametrize("fragment", ["", "#", "#sha256=", "#sha256=12ab", f"#md5={'0' * 32}"])
def test_a_url_says_which_file_is_meant(fragment, served):
    with pytest.raises(UserError, match=r"does not say which file is meant; add #sha256= and"):
        load_flow(URL + fragment)
    assert served[1] == []


@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
def test_other_schemes_are_refused(scheme, served):
    with pytest.raises(UserError, match=r"is not fetched; give a path, or a URL .* https://"):
        load_flow(f"{scheme}://example.org/a.zip#sha256={served[0]}")
    assert served[1] == []


def test_another_file_at_the_url_is_refused(served, tmp_path):
    with pytest.raises(UserError, match=r"a.zip cannot be downloaded \(.*does not match") as error:
        load_flow(f"{URL}#sha256={'0' * 64}")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.zip"))
