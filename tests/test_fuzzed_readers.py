"""Damaged files are read as they were, or refused in one sentence that names them.

WFM_FUZZ=2000 tries so many for each reader (`make fuzz`).
"""

import faulthandler
import os
import random
import resource
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.mutations import damaged
from tests.readers import READERS, damage_one, read_quietly
from wfm.errors import UserError

INPUTS = int(os.environ.get("WFM_FUZZ", "60"))
SECONDS = 5.0  # of the processor, for one input
MEMORY = 2**30  # more than any of these files needs, and less than sizes that they claim


@pytest.fixture(autouse=True)
def bounds():
    """No more memory than now and a little, and an end to what hangs."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    faulthandler.dump_traceback_later(600 + INPUTS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(reader, folder, good):
    """`same`, `other` or `refused`; anything else is a bug."""
    try:
        found = read_quietly(reader, folder)
    except UserError as error:
        text = str(error)
        assert str(folder) in text, f"names no file: {text}"
        assert text.isprintable(), f"is not one line: {text!r}"
        assert len(text) < 1000 + text.count(str(folder)) * len(str(folder)), f"is long: {text}"
        return "refused"
    assert not reader.sealed or found == good, f"read as something else: {found}"
    return "same" if found == good else "other"


@pytest.mark.parametrize("name", READERS)
def test_what_is_damaged_is_read_as_it_was_or_refused(name, tmp_path, as_in_use):
    reader, counts = READERS[name], Counter()
    (tmp_path / "good").mkdir()
    reader.write(tmp_path / "good")
    good = read_quietly(reader, shutil.copytree(tmp_path / "good", tmp_path / "read"))
    for number in range(round(INPUTS * reader.share) if INPUTS < 2000 else INPUTS):
        folder = shutil.copytree(tmp_path / "good", tmp_path / str(number))
        rng = random.Random(f"{name} {number}")
        file, start = damage_one(folder, reader, rng, damaged), time.process_time()
        try:
            counts[outcome(reader, folder, good)] += 1
        except Exception as error:
            error.add_note(f"input {number} of {name}: {file}")
            raise
        assert time.process_time() - start < SECONDS, f"input {number} of {name}: {file}"
        shutil.rmtree(folder)
    found = " | ".join(str(counts[kind]) for kind in ("same", "other", "refused"))
    print(f"\n| {name} | {found} |")
    assert counts["refused"] + counts["same"] > 0
