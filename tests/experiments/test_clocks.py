"""Durations come from clocks that never go back."""

import re
import time
from pathlib import Path

from experiments.log import Lines
from experiments.store import Store, about

ROOT = Path(__file__).parents[2]
WALL = re.compile(r"\btime\.time\b|datetime\.now|\butcnow\b|from time import|st_[amc]time|utime")


def test_no_code_asks_what_time_it_is():
    """Only the day of a figure is written down."""
    files = [p for d in ("wfm", "experiments") for p in (ROOT / d).rglob("*.py")]
    assert len(files) > 100
    assert [p.name for p in files if WALL.search(p.read_text())] == []


def test_a_clock_that_is_set_back_changes_no_durations(tmp_path, monkeypatch, capsys):
    now = iter(range(10**9, 0, -(10**6)))  # days earlier each time somebody looks
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    entry = Store(tmp_path).get("zoo", {}, lambda folder: (folder / "output").touch())
    assert 0 <= about(entry)["seconds"] < 60
    lines = Lines("Training", 10, 0)
    lines.update(5)
    lines.write()
    assert re.match(r"Training 5/10, \d+\.\d/s\n", capsys.readouterr().err)
