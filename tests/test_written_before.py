"""Files of earlier versions are read by this one, for ever.

`python -m tests.test_written_before` writes those of this version into `tests/written/VERSION/`,
once, when it is released; a folder that is there stays as it is.
"""

import json
from pathlib import Path

import pytest

import wfm
from tests.readers import READERS

WRITTEN = Path(__file__).parent / "written"
KINDS = ("weights", "zoo", "flow", "flow in one file", "records")
EXPECTED = "expected.json"
FOLDERS = [p.parent for p in sorted(WRITTEN.glob(f"*/*/{EXPECTED}"))]


def plain(found):
    return json.loads(json.dumps(found))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f"{f.parent.name} {f.name}")
def test_what_was_written_before_is_read(folder):
    read = READERS[folder.name].read
    assert plain(read(folder)) == json.loads((folder / EXPECTED).read_text())


def test_each_kind_was_written_by_the_first_version():
    assert {(f.parent.name, f.name) for f in FOLDERS} >= {("0.1.0", kind) for kind in KINDS}


def main():
    for kind in KINDS:
        folder = WRITTEN / wfm.__version__ / kind
        if folder.is_dir():
            continue
        folder.mkdir(parents=True)
        READERS[kind].write(folder)
        (folder / EXPECTED).write_text(json.dumps(READERS[kind].read(folder)) + "\n")


if __name__ == "__main__":
    main()
