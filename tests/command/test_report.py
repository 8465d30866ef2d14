"""`wfm evaluate --report`: one file that says what was judged, and shows it."""

import base64
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.io.torch_nets import networks as drawn
from wfm.command.report import Row, picture, write_report
from wfm.io import write_arrays
from wfm.weights import mlp

NAME = "<b>$x</b> & 'nets'.npz"
PNG = b"\x89PNG\r\n\x1a\n"
COLUMNS = {"networks": "those judged", "loss": "in nats"}


class Page(HTMLParser):
    """The tags of a page, with what they say and point to."""

    def __init__(self, text):
        super().__init__()
        self.said, self.tags, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.said.append(data)


def row(name, accuracy, loss):
    figures = {"accuracy": np.array(accuracy, "f4"), "loss": np.array(loss, "f4")}
    return Row({"networks": name, "loss": "1.000 ± 0.000"}, figures)


def test_a_report_holds_all_that_it_shows(tmp_path):
    rows = [row("zoo", [0.5, 1.0], [0.7, 0.1]), row(NAME, [0.25], [2.0])]
    path = tmp_path / "report.html"
    write_report(path, NAME, rows, COLUMNS, {"networks": f"nets/{NAME}", "task": "iris"})
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.said.count(NAME) == 3 and f"nets/{NAME}" in page.said  # titles, and the table
    assert not {"b", "script", "link"} & set(page.tags)
    assert {"those judged", "in nats", "iris", "wfm", "jax", "Python"} <= set(page.said)
    assert f"blue: zoo; orange: {NAME}" in page.said
    assert page.tags.count("tr") == 3 and page.tags.count("td") == 4
    (source,) = page.links
    assert source.startswith("data:image/png;base64,") and "://" not in text
    assert base64.b64decode(source.partition(",")[2]).startswith(PNG)


@pytest.mark.parametrize(
    ("accuracy", "loss"),
    [([0.5], [1.0]), ([0.5, 0.5], [np.nan, 1e30]), ([np.nan], [np.nan]), ([], [])],
    ids=["one", "some without", "none", "no networks"],
)
def test_odd_figures_are_drawn(accuracy, loss):
    assert picture({"orange": row("nets", accuracy, loss)}).startswith(PNG)


def test_names_that_are_no_text_are_written(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, "nets\udcff", [row("nets\udcff", [1.0], [1.0])], COLUMNS, {})
    assert "nets&#56575;" in path.read_text("utf-8")


def test_a_place_that_is_taken_is_refused_before_any_work(refused, monkeypatch, tmp_path):
    taken = tmp_path / "report.html"
    taken.write_text("mine")
    argv = ("evaluate", tmp_path / "absent", "--task", "iris", "--report")
    assert "is there and not empty" in refused(*argv, taken)
    assert taken.read_text() == "mine"
    assert "is a folder; name a new file" in refused(*argv, tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said = refused(*argv, tmp_path / "new.html")
    assert "matplotlib is not installed; `pip install 'wfm[command]'`" in said


@pytest.mark.slow
def test_the_report_of_a_command(wfm, tmp_path):
    write_arrays(tmp_path / "zoo.npz", drawn(6, mlp(4, 5, 3)), "npz")
    report = tmp_path / "reports" / "one.html"
    said = wfm(
        *("evaluate", tmp_path / "zoo.npz", "--network", "mlp:4,5,3", "--task", "iris"),
        *("--against", tmp_path / "zoo.npz", "--report", report),
    )
    header, _, *lines = said.splitlines()
    assert lines.pop() == f"report: {report}"
    page = Page(report.read_text("utf-8"))
    for line in (header, *lines):
        assert set(re.split("  +", line)) <= set(page.said)
    assert "zoo.npz on iris" in page.said and "iris, test split 0" in page.said
