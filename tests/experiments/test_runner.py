"""A study run with measures that take no time: records, pictures, the report, and what is kept."""

import base64
import dataclasses
import re

import pytest
from ml_collections import ConfigDict

from experiments import records, report
from experiments.measures import MEASURES, Measure, Point
from experiments.pages import Picture, Table, metric, number
from experiments.records import Figure
from experiments.runner import check, run_study
from experiments.store import Store
from experiments.study import Row, Study
from experiments.workdir import Workdir
from wfm.errors import UserError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
PAGE = (
    Table("flow", ("flow",), (metric("loss", "loss", number(1)),), {"set": "samples"}),
    Picture("a dot", "dot.png", at={"flow": "b"}),
)


@pytest.fixture
def made(monkeypatch):
    """The points that were measured, in order."""
    found = []

    def points(run):
        for name in ("zoo", "samples"):

            def figures(folder, name=name):
                found.append((run.config.size, run.config.seed, name))
                return {"loss": Figure(run.config.size / 2, std=0.5), "seen": name == "zoo"}

            yield Point({"set": name}, figures)

    def picture(run):
        def draw(folder):
            found.append("picture")
            (folder / "dot.png").write_bytes(PNG)
            return {}

        yield Point({}, draw)

    def refuse(run):
        if run.config.size > 100:
            raise UserError("too large")

    monkeypatch.setitem(MEASURES, "tried", Measure(points, check=refuse))
    monkeypatch.setitem(MEASURES, "drawn", Measure(picture))
    return found


def study(*rows, **changes):
    base = ConfigDict({"seed": 0, "size": 3})
    rows = rows or (
        Row({"flow": "b"}),
        Row({"flow": "a"}, {"size": 5}),
        Row({"flow": "c"}, {"size": 7}, dear=True),
    )
    return dataclasses.replace(Study("small", base, ("tried", "drawn"), rows, page=PAGE), **changes)


@pytest.fixture
def run(tmp_path, made):
    def in_workdir(only=None, name="run", of=None):
        workdir = Workdir(tmp_path / name, of or study())
        return run_study(of or study(), workdir, Store(tmp_path / "store", "the command"), only)

    return in_workdir


def test_records_have_the_place_of_their_row_seed_and_point(run, made):
    found = run(of=study(seeds=(2, 1)))
    losses = records.where(found, {"metric": "loss"})
    assert [(x.at, x.value, x.std) for x in losses] == [
        ({"flow": flow, "seed": seed, "set": name}, size / 2, 0.5)
        for flow, size in (("b", 3), ("a", 5))
        for seed in (2, 1)
        for name in ("zoo", "samples")
    ]
    assert {x.source.command for x in found} == {"the command"}
    assert all(x.seconds >= 0 for x in losses)
    assert [x.value for x in records.where(found, {"metric": "seen", "seed": 1})] == [1, 0] * 2
    costs = records.where(found, {"stage": "measure"})
    assert {x.metric for x in costs} == {"seconds", "peak_mb"}
    assert len(costs) == 2 * 4
    assert len([x for x in made if x != "picture"]) == 8


def test_a_run_writes_all_it_promises(run, tmp_path, capsys):
    found, folder = run(), tmp_path / "run"
    assert records.read(folder / "records.json") == found
    assert (folder / "config.json").exists()
    assert (folder / "cells" / "flow=a-seed=0" / "dot.png").read_bytes() == PNG
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "flow  loss" in page
    assert "&quot;size&quot;: 3" in page
    assert "flow a, seed 0 (2 of 2)" in capsys.readouterr().out


def test_nothing_is_made_twice_even_in_another_folder(run, made):
    first, number = run(), len(made)
    assert run() == first
    assert run(name="other") == first
    assert len(made) == number


def test_cells_that_agree_in_what_is_read_are_measured_once(run, made):
    rows = Row({"flow": "b"}), Row({"flow": "the same by another name"})
    losses = records.where(run(of=study(*rows)), {"metric": "loss"})
    assert len(losses) == 4
    assert len(made) == 3


def test_rows_that_are_asked_for_join_those_of_earlier_calls(run, made):
    assert {x.at["flow"] for x in run({"flow": "a"})} == {"a"}
    assert list(dict.fromkeys(x.at["flow"] for x in run({"flow": "c"}))) == ["a", "c"]
    assert list(dict.fromkeys(x.at["flow"] for x in run())) == ["b", "a", "c"]  # of the study


def test_a_damaged_cell_of_an_earlier_call_is_named(run, tmp_path):
    run({"flow": "a"})
    file = tmp_path / "run" / "cells" / "flow=a-seed=0" / "records.json"
    file.write_bytes(file.read_bytes()[:-9])
    told = rf"{re.escape(str(file))} is damaged \(.*\); delete it to have it made again"
    with pytest.raises(UserError, match=told):
        run({"flow": "b"})
    assert len(run({"flow": "a"})) > 0  # which makes that cell again
    assert len(run()) > 0


def test_a_kill_before_the_report_is_written_loses_nothing(run, made, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    file = tmp_path / "run" / "report.html"
    assert not file.exists()
    number = len(made)
    run()
    assert file.exists()
    assert len(made) == number


def contents(place):
    """Of a file, or of all files in a folder."""
    files = [p for p in (place, *place.rglob("*")) if p.is_file()]
    return {str(p.relative_to(place)): p.read_bytes() for p in files}


@pytest.mark.parametrize("name", ["report.html", "records.json", "cells"])
def test_what_is_gone_from_a_folder_is_made_again_from_the_store(name, run, made, tmp_path):
    first, number = run(), len(made)
    (tmp_path / "run" / name).rename(tmp_path / "gone")
    assert run() == first
    again, gone = tmp_path / "run" / name, tmp_path / "gone"
    assert contents(again) == contents(gone)
    assert len(made) == number


def test_another_command_does_not_change_where_figures_come_from(run, tmp_path, made):
    first = run()
    kept = Store(tmp_path / "store", "another")
    again = run_study(study(), Workdir(tmp_path / "run", study()), kept, None)
    assert again == first


def test_coordinates_of_a_row_are_not_those_of_a_measure(tmp_path, made):
    told = "rows and the measure 'tried' both have a coordinate 'set'; rename that of the rows"
    with pytest.raises(UserError, match=told):
        check(study(Row({"set": "mine"})).cells(), Store(tmp_path))


def test_settings_are_checked_before_any_work(tmp_path, made):
    rows = Row({"flow": "b"}), Row({"flow": "a"}, {"size": 101})
    kept = Store(tmp_path / "store")
    with pytest.raises(UserError, match="too large"):
        check(study(*rows).cells(), kept)
    with pytest.raises(UserError, match=r"config.measures is 'nix'; choose one of quality, "):
        check(study(measures=("nix",)).cells(), kept)
    assert not made
    assert not kept.folder.exists()


def test_a_terminal_shows_the_page_without_pictures(run, tmp_path):
    found = run()
    text = report.tables(study(), found, Workdir(tmp_path / "run", study()))
    lines = text.splitlines()
    assert lines[:3] == ["flow  loss", "b      1.5", "a      2.5"]
    assert "dot.png" not in text


def test_the_page_of_a_run_fits_a_phone():
    assert '<meta name="viewport" content="width=device-width' in report.PAGE
    assert "max-width: 100%" in report.PAGE and "overflow-x: auto" in report.PAGE
