"""Progress on a terminal, and in a file where no bar can move."""

import pytest

from experiments import log
from experiments.log import progress_bar


def test_without_a_terminal_there_is_a_line_at_the_end_of_quick_work(capsys):
    with progress_bar("Training", 10, 4) as bar:
        for step in range(5, 11):
            bar.update(step, f"loss {step}")
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("Training 10/10, ") and line.endswith("/s, loss 10")


def test_without_a_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    now = iter(range(0, 1000, 4))  # a clock that is read at most twice for each update
    monkeypatch.setattr(log.time, "monotonic", lambda: next(now))
    with progress_bar("Training", 40) as bar:
        for step in range(1, 41):
            bar.update(step)
    lines = capsys.readouterr().err.splitlines()
    assert 40 * 4 / (log.SECONDS + 4) <= len(lines) < 40 / 3
    assert all(line.startswith("Training ") and "/40, " in line for line in lines)


def test_where_work_fails_how_far_it_came_is_said(capsys):
    with pytest.raises(KeyError), progress_bar("Training", 10) as bar:
        bar.update(3)
        raise KeyError
    assert capsys.readouterr().err.startswith("Training 3/10")


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar("Training", 10) as bar:
        bar.update(10, "loss 0.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert "━" in err and "10/10" in err
