"""The store: what is made once is found ever after, whoever asks, and whatever befell its files."""

import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from experiments import store as module
from experiments.store import Store, about
from wfm.errors import UserError

READS = {"task": "iris", "zoo": {"networks": 8, "hidden": (6, 3)}, "sigma": 0.5, "path": ""}


@pytest.fixture
def made():
    """The folders that were made, in order."""
    return []


@pytest.fixture
def make(made):
    def write(folder):
        made.append(folder)
        (folder / "part").mkdir(exist_ok=True)
        (folder / "output").write_text("an output")
        (folder / "part" / "more").write_text("more of it")

    return write


def test_an_output_is_made_once_and_found_again(tmp_path, make, made):
    entry = Store(tmp_path, "the command").get("zoo", READS, make)
    for again in (Store(tmp_path), Store(str(tmp_path))):
        assert again.get("zoo", READS, make) == entry == again.place("zoo", READS)
    assert len(made) == 1
    assert (entry / "part" / "more").read_text() == "more of it"
    assert [p.name for p in entry.parent.iterdir()] == [entry.name]  # no lock, nothing begun
    found = about(entry)
    assert found["stage"] == "zoo"
    assert found["reads"] == json.loads(json.dumps(READS))
    assert found["files"].keys() == {"output", "part/more"}
    assert found["seconds"] >= 0
    assert found["peak_mb"] > 0
    assert found["source"]["command"] == "the command"
    assert found["source"]["versions"]["jax"] == jax.__version__


CHANGES = [
    {"task": "wine"},
    {"zoo": {"networks": 9, "hidden": (6, 3)}},
    {"zoo": {"networks": 8, "hidden": (3, 6)}},
    {"zoo": {"networks": 8, "hidden": (6, 3), "more": None}},
    {"sigma": 0.5000000001},
    {"sigma": "0.5"},
    {"path": None},
    {"file": ""},
]


def test_a_place_is_that_of_all_that_is_read(tmp_path):
    kept = Store(tmp_path)
    changed = [kept.place("zoo", READS | change) for change in CHANGES]
    assert len({kept.place("zoo", READS), kept.place("train", READS), *changed}) == 2 + len(CHANGES)
    missing = [{k: v for k, v in READS.items() if k != key} for key in READS]
    assert kept.place("zoo", READS) not in [kept.place("zoo", reads) for reads in missing]


def test_a_place_is_the_same_in_whatever_order_things_are_named(tmp_path):
    kept, zoo = Store(tmp_path), {"hidden": [6, 3], "networks": 8}
    turned = dict(reversed((READS | {"zoo": zoo}).items()))
    assert list(turned) != list(READS)
    assert kept.place("zoo", turned) == kept.place("zoo", READS)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, but for what is added to `now`."""
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: found.now))
    return found


def test_what_is_interrupted_goes_on_and_its_seconds_add_up(tmp_path, clock):
    tries = []

    def make(folder):
        tries.append(sorted(p.name for p in folder.iterdir() if p.name != "seconds"))
        (folder / f"try {len(tries)}").touch()
        clock.now += 10.0
        if len(tries) < 3:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path).get("zoo", READS, make)
        place = Store(tmp_path).place("zoo", READS)
        assert not place.exists()
        assert place.with_name(f"{place.name}.begun").is_dir()
    entry = Store(tmp_path).get("zoo", READS, make)
    assert tries == [[], ["try 1"], ["try 1", "try 2"]]
    assert about(entry)["seconds"] == 30
    assert about(entry)["files"].keys() == {"try 1", "try 2", "try 3"}
    assert [p.name for p in entry.parent.iterdir() if p != entry and p.suffix != ".lock"] == []


def test_seconds_of_what_an_output_needs_are_not_its_own(tmp_path, clock):
    kept, stopped = Store(tmp_path), [True]

    def took(seconds, *needed):
        def make(folder):
            for name, made in needed:
                kept.get(name, READS, made)
            clock.now += seconds

        return make

    def sampled(folder):
        clock.now += 8.0
        if stopped.pop():
            raise KeyboardInterrupt

    zoo, flow = ("zoo", took(1.0)), ("train", took(2.0, ("zoo", took(1.0)), ("align", took(4.0))))
    outer = took(16.0, zoo, flow, ("sample", sampled), ("more", took(32.0)))
    with pytest.raises(KeyboardInterrupt):
        kept.get("quality", READS, outer)
    stopped.append(False)
    kept.get("quality", READS, outer)
    seconds = {e.parent.parent.name: about(e.parent)["seconds"] for e in tmp_path.rglob("*.json")}
    assert seconds == {
        "zoo": 1,
        "align": 4,
        "train": 2,
        "sample": 16,  # both tries
        "more": 32,
        "quality": 16,
    }


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-3])


DAMAGES = {
    "a file with a flipped bit": ("output", flip),
    "a truncated file": ("part/more", truncate),
    "an empty file": ("output", lambda file: file.write_bytes(b"")),
    "a file that is gone": ("part/more", lambda file: file.unlink()),
    "a truncated entry": ("entry.json", truncate),
    "an entry that is gone": ("entry.json", lambda file: file.unlink()),
    "an entry of no JSON": ("entry.json", lambda file: file.write_bytes(b"\xff\xfe\0\1")),
    "an entry that is null": ("entry.json", lambda file: file.write_text("null")),
    "an entry that is a list": ("entry.json", lambda file: file.write_text("[1]")),
    "an entry of other things": ("entry.json", lambda file: file.write_text('{"stage": "zoo"}')),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_set_aside_and_made_again(damage, tmp_path, make, made):
    entry = Store(tmp_path).get("zoo", READS, make)
    name, change = DAMAGES[damage]
    change(entry / name)
    told = re.escape(f"{entry / name} is damaged; it is set aside and made again")
    for number in (2, 3):  # a second time, the place to set it aside to is taken
        with pytest.warns(UserWarning, match=told):
            assert Store(tmp_path).get("zoo", READS, make) == entry
        assert len(made) == number
        assert (entry / "output").read_text() == "an output"
        assert entry.with_name(f"{entry.name}.damaged").is_dir()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Store(tmp_path).get("zoo", READS, make) == entry  # which is sound
        change(entry / name)


def test_files_are_compared_once_by_each_process(tmp_path, make, monkeypatch):
    Store(tmp_path).get("zoo", READS, make)
    read, digest = [], module.file_digest
    monkeypatch.setattr(module, "file_digest", lambda path: read.append(path) or digest(path))
    kept = Store(tmp_path)
    for _ in range(3):
        kept.get("zoo", READS, make)
    assert len(read) == 2


NO_STORES = {
    "a file": ("file", "file cannot be a store (File exists); choose another --store"),
    "below a file": ("file/store", "file/store cannot be a store (Not a directory)"),
    "a long name": ("x" * 300, "cannot be a store (File name too long)"),
    "where nothing can be written": ("/proc/store", "/proc/store cannot be a store (No"),
}


@pytest.mark.parametrize("name", NO_STORES)
def test_what_cannot_be_a_store(name, tmp_path):
    (tmp_path / "file").touch()
    place, message = NO_STORES[name]
    with pytest.raises(UserError, match=re.escape(message)):
        Store(tmp_path / place).open()


def test_other_processes_of_the_same_run_write_nothing(tmp_path, monkeypatch, made):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    entry = Store(tmp_path).get("zoo", READS, made.append)
    assert len(made) == 1  # they compute along
    assert not entry.exists()  # what the first one writes
    assert not list(tmp_path.rglob("*.lock"))


def test_a_kill_after_all_was_made_costs_nothing(tmp_path, make, made, monkeypatch):
    """What was made is complete before what helps to go on from is removed."""

    def make_from_groups(folder):
        (folder / "groups").mkdir()
        make(folder)

    def die(*_, **__):
        raise KeyboardInterrupt

    kept = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            kept.get("zoo", READS, make_from_groups, "groups")
    (begun,) = tmp_path.glob("zoo/*.begun")
    (begun / "output.x.partial").mkdir()  # as a kill leaves it
    entry = Store(tmp_path).get("zoo", READS, make_from_groups, "groups")
    assert len(made) == 1
    assert sorted(p.name for p in entry.iterdir()) == ["entry.json", "output", "part"]


def test_the_lock_that_a_kill_at_the_very_end_leaves_is_removed(tmp_path, make):
    entry = Store(tmp_path).get("zoo", READS, make)
    lock = entry.with_name(f"{entry.name}.lock")
    lock.touch()
    Store(tmp_path).get("zoo", READS, make)
    assert not lock.exists()


def test_entries_from_before_they_were_sealed_are_read(tmp_path, make, made):
    entry = Store(tmp_path).get("zoo", READS, make)
    (entry / "entry.json").write_text(json.dumps(about(entry)))
    assert Store(tmp_path).get("zoo", READS, make) == entry
    assert len(made) == 1
    assert about(entry)["stage"] == "zoo"


OTHER = """
import sys, time
from pathlib import Path
from experiments.store import Store

folder, log, go = map(Path, sys.argv[1:])
def make(begun):
    with log.open("a") as file:
        print("made", file=file, flush=True)
    (begun / "output").write_text("by another process")
    while not go.exists():
        time.sleep(0.01)
print(Store(folder).get("zoo", {"seed": 0}, make), flush=True)
"""


def other(*arguments):
    """A process that asks for an output, and makes it only while the third file is there."""
    command = [sys.executable, "-c", OTHER, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(seen, *processes):
    while not seen():
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.fixture
def places(tmp_path):
    return tmp_path / "store", tmp_path / "log", tmp_path / "go"


def test_of_two_processes_one_makes_and_the_other_waits(places):
    _, log, go = places
    both = [other(*places) for _ in range(2)]
    wait_for(log.exists, *both)
    time.sleep(0.2)
    go_on = lambda: list(places[0].rglob("*.lock"))  # noqa: E731
    wait_for(go_on, *both)
    go.touch()
    said = [process.communicate()[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0][-1] == said[1][-1]
    assert log.read_text() == "made\n"
    # Whoever came while the other was at work was told so.
    told = [lines[0] for lines in said if len(lines) > 1]
    assert all(re.match(r"Waiting for process \d+ on .*, which makes ", line) for line in told)


def test_the_lock_of_a_killed_process_is_free_and_what_it_has_begun_stays(places):
    kept, log, _ = places
    process = other(*places)
    wait_for(log.exists, process)
    begun = Store(kept).place("zoo", {"seed": 0})
    begun = begun.with_name(f"{begun.name}.begun")
    wait_for(lambda: (begun / "output").exists() and (begun / "output").read_text(), process)
    process.kill()
    process.communicate()
    found = []
    entry = Store(kept).get("zoo", {"seed": 0}, lambda f: found.append((f / "output").read_text()))
    assert found == ["by another process"]
    assert about(entry)["files"].keys() == {"output"}
