"""Pages: tables, cells and pictures, from records made by hand."""

import dataclasses
import itertools
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import transfer
from experiments import records as r
from experiments.labels import label
from experiments.pages import (
    MARK,
    Column,
    Cost,
    Each,
    Page,
    Picture,
    Table,
    Text,
    body,
    each_value,
    folder_of,
    joined,
    metric,
    number,
    over_seeds,
    padded,
    table,
    total,
    write,
)
from experiments.records import Record, Source
from experiments.study import Row, Study

HERE = Source("python run", "a machine", "2026-01-02", {"jax": "1", "wfm": "2"})


def record(value, metric="loss", std=None, error=None, **at):
    return Record(at, metric, value, std=std, error=error, source=HERE)


RECORDS = [
    record(0.5, flow="b", seed=1, std=0.25, error=0.125),
    record(0.75, metric="accuracy", flow="b", seed=1),
    record(1.5, flow="a", seed=1, std=0.5),
    record(2.5, flow="a", seed=3, std=0.7),
    record(1234.5, metric="seconds", stage="train", flow="a", seed=1),
    record(1.0, metric="seconds", stage="zoo", flow="a", seed=1),
    record(100.0, metric="peak_mb", stage="zoo", flow="a", seed=1),
    record(300.0, metric="peak_mb", stage="train", flow="a", seed=1),
]


ROWS = (Row({}),)


def page(*blocks, found=RECORDS, target=None, cells=None, rows=ROWS):
    study = Study("tried", ConfigDict({"seed": 0}), (), rows, page=blocks)
    return Page(study, found, target or "unused", cells)  # type: ignore


def shown(block, found=RECORDS):
    return block.markdown(page(found=found)).splitlines()


ONE, SPREAD = [RECORDS[0]], r.over_seeds(RECORDS[2:4])


@pytest.mark.parametrize(
    ("cell", "found", "text"),
    [
        (number(3), ONE, "0.500"),
        (number(0), [record(1234.5)], "1,234"),
        (number(1), [record(-0.25)], "-0.2"),
        (number(2, std=1), ONE, "0.50 ± 0.2"),
        (number(2, error=3), ONE, "0.50 ± 0.125"),
        (number(2, std=2, error=3), ONE, "0.50 ± 0.25 ± 0.125"),
        (number(2, std=2), [record(1.0)], "1.00"),
        (number(2, seeds=4), SPREAD, "2.00 (0.7071)"),
        (number(2, std=1, seeds=1), SPREAD, "2.00 ± 0.6 (0.7)"),
        (number(2, seeds=4), r.over_seeds(ONE), "0.50"),
        (over_seeds(3), SPREAD, "2.000 ± 0.707"),
        (over_seeds(3), r.over_seeds(ONE), "0.500"),
        (over_seeds(1), [dataclasses.replace(ONE[0], seed_std=0.0)], "0.5 ± 0.0"),
        (total(1), RECORDS[4:6], "1,235.5"),
        (joined("metric", {"accuracy": number(2), "loss": number(1)}), RECORDS[:2], "0.75 / 0.5"),
        (joined("metric", {"accuracy": number(2), "none": number(1)}), RECORDS[:2], "0.75"),
        (
            joined("metric", {"loss": number(1), "accuracy": number(2)}, ", "),
            RECORDS[:2],
            "0.5, 0.75",
        ),
    ],
)
def test_what_a_cell_says(cell, found, text):
    assert cell(found) == text
    assert cell([]) == ""  # unknown figures leave it empty


def test_a_table_has_a_row_for_each_value_and_means_over_seeds():
    loss = metric("mean loss", "loss", number(1, seeds=2))
    columns = (loss, metric("accuracy", "accuracy", number(2)), metric("none", "none", number(2)))
    assert shown(Table("flow", ("flow",), columns, {"stage": None})) == [
        "| flow | mean loss | accuracy | none |",
        "|---|---|---|---|",
        "| b | 0.5 | 0.75 |  |",
        "| a | 2.0 (0.71) |  |  |",
    ]


def test_rows_of_a_table_are_named_prepared_and_have_lines_beside_them():
    tried = Table(
        "row",
        ("flow", "seed"),
        (metric("loss", "loss", number(1)),),
        {"stage": None, "metric": "loss"},
        title=lambda flow, seed: f"{flow}, seed {seed}",
        prepare=list,
        beside=lambda flow, seed: [["*published*", "0.1"]] if seed == 3 else [],
    )
    assert shown(tried)[2:] == [
        "| b, seed 1 | 0.5 |",
        "| a, seed 1 | 1.5 |",
        "| a, seed 3 | 2.5 |",
        "| *published* | 0.1 |",
    ]
    plain = dataclasses.replace(tried, title=Table.title, beside=Table.beside)
    assert shown(plain)[2] == "| b, 1 | 0.5 |"


def test_columns_may_depend_on_the_records():
    points = [record(n / 2, way=way, steps=n) for way, n in (("x", 8), ("x", 1), ("y", 8))]
    tried = Table("way", ("way",), each_value("steps", number(1), int), prepare=list)
    assert shown(tried, points) == [
        "| way | 1 | 8 |",
        "|---|---|---|",
        "| x | 0.5 | 4.0 |",
        "| y |  | 4.0 |",
    ]
    as_they_come = dataclasses.replace(tried, columns=each_value("steps", number(1)))
    assert shown(as_they_come, points)[0] == "| way | 8 | 1 |"


def test_a_table_of_no_records_has_a_head():
    assert shown(Table("flow", ("flow",), (metric("loss", "loss", number(1)),)), []) == [
        "| flow | loss |",
        "|---|---|",
    ]


def test_tables_are_padded_for_a_terminal():
    text = "Words | kept\n\n" + table([["flow", "loss", "x"], ["longer name", "0.5", ""]])
    assert padded(text).splitlines() == [
        "Words | kept",
        "",
        "flow         loss  x",
        "longer name   0.5   ",
    ]
    assert padded("no table") == "no table"


def test_the_same_blocks_for_each_value():
    losses = Table("seed", ("seed",), (metric("loss", "loss", number(1)),), prepare=list)
    tried = Each(
        ("flow",),
        lambda flow: f"## {flow}",
        (Text(lambda part: f"{len(part.records)} records"), losses),
        {"metric": "loss"},
    )
    text = tried.markdown(page())
    assert text.split("\n\n") == [
        "## b",
        "1 records",
        "| seed | loss |\n|---|---|\n| 1 | 0.5 |",
        "## a",
        "2 records",
        "| seed | loss |\n|---|---|\n| 1 | 1.5 |\n| 3 | 2.5 |",
    ]
    assert Each(("flow",), str, (losses,), {"flow": "none"}).markdown(page()) == ""


def test_what_a_run_cost():
    assert Cost({"flow": "a"}).markdown(page()) == (
        "`python run`. Seed 1, 3; a machine; seconds, compilation included: train 1234, zoo 1, "
        "total 1236; peak memory 300 MB."
    )
    of_means = r.over_seeds(RECORDS)  # which name their seeds
    assert "Seed 1, 3; a machine" in Cost({"flow": "a"}).markdown(page(found=of_means))
    measured = [record(7.0, metric="seconds", stage="total", seed=0)]
    assert "included: total 7; " in Cost().markdown(page(found=measured))


def test_a_page_keeps_what_was_written_by_hand(tmp_path):
    target = tmp_path / "docs" / "tried.v2"
    tried = page(
        Text("Words."),
        Table("flow", ("flow",), (metric("loss", "loss", number(1)),), {"metric": "loss"}),
        Text(""),
        target=tmp_path / "docs" / "tried",
    )
    write(tried)
    file = tmp_path / "docs" / "tried.md"
    text = file.read_text()
    assert text.startswith(f"# Results: tried\n\n{MARK}\n\nWords.\n\n| flow | loss |\n")
    assert text.endswith("| a | 2.0 |\n\n2026-01-02; jax 1, wfm 2.\n")
    file.write_text(text.replace(MARK, f"Kept.\n\n{MARK}").replace("Words", "Gone"))
    write(tried)
    again = file.read_text()
    assert again == text.replace(MARK, f"Kept.\n\n{MARK}")
    assert r.read(tmp_path / "docs" / "tried.json") == RECORDS
    assert target.name == "tried.v2"


def test_pictures_of_runs_are_copied_beside_the_page(tmp_path):
    cells, target = tmp_path / "cells", tmp_path / "docs" / "tried"
    rows = Row({"flow": "b/c"}), Row({"flow": "a"})
    for at in ({"flow": "b/c", "seed": 0}, {"flow": "a", "seed": 0}):
        (cells / folder_of(at)).mkdir(parents=True)
        (cells / folder_of(at) / "map.png").write_bytes(str(at).encode())
    blocks = Picture("First", "map.png"), Picture("Of a", "map.png", "a", {"flow": "a"})
    blocks = (*blocks, Picture("None", "none.png", "none"))
    tried = page(*blocks, target=target, cells=cells, rows=rows)
    write(tried)
    assert "![First](tried.png)\n\n![Of a](tried-a.png)" in target.with_suffix(".md").read_text()
    assert b"b/c" in target.with_suffix(".png").read_bytes()
    assert b"'a'" in (tmp_path / "docs" / "tried-a.png").read_bytes()
    assert not (tmp_path / "docs" / "tried-none.png").exists()
    # Written again without the run's folder, pictures stay.
    write(dataclasses.replace(tried, cells=None))
    assert b"b/c" in target.with_suffix(".png").read_bytes()


@pytest.mark.parametrize(
    ("at", "name"),
    [
        ({}, "run"),
        ({"flow": "a b/c", "seed": 0}, "flow=a_b_c-seed=0"),
        ({"task": "breast_cancer", "size": 1.5}, "task=breast_cancer-size=1.5"),
    ],
)
def test_folders_of_pictures_are_possible_names(at, name):
    assert folder_of(at) == name


def test_no_name_lies_upon_another():
    rng = np.random.default_rng(0)
    dots = [(f"name {i}", *rng.normal(0.5, 0.05, 2)) for i in range(30)]
    figure, axes = plt.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label(axes, [*dots, ("outside", 2.0, 0.5), dots[0]], fontsize=6)
    figure.draw_without_rendering()
    texts = [t for t in axes.texts if t.get_visible()]
    assert sorted(t.get_text() for t in texts) == sorted(name for name, *_ in dots)
    # The text alone: the extent of an annotation has its line as well.
    boxes = [super(type(t), t).get_window_extent() for t in texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    plt.close(figure)


def of_transfer(value, metric="accuracy", error=None, **at):
    place = {"task": "mnist", "to": "fashion_mnist", "part": "task", "way": "from He", "width": 3}
    return record(value, metric, error=error, **(place | {"gradients": 2, "seed": 0} | at))


def test_settings_are_chosen_on_validation_data():
    points = [
        of_transfer(value, metric, setting=setting, **more)
        for setting, accuracy, validation, more in (
            (1.0, 0.9, 0.7, {}),
            (2.0, 0.8, 0.8, {}),
            (1.0, 0.5, 0.1, {"gradients": 4}),
            (1.0, 0.6, 0.9, {"seed": 1}),
            (2.0, 0.6, 0.8, {"seed": 1}),
        )
        for metric, value in (("accuracy", accuracy), ("validation_accuracy", validation))
    ]
    found = r.where(transfer.best(points), {"metric": "accuracy"})
    assert [(x.at["gradients"], x.value, x.at["settings"]) for x in found] == [
        (2, pytest.approx(0.7), (1.0, 2.0)),  # of each seed its own
        (4, 0.5, (1.0,)),
    ]


def test_runs_of_several_seeds_are_seen_as_one():
    points = [
        of_transfer(value, metric, setting=0.1, seed=seed)
        for seed in range(3)
        for metric, value in (
            ("accuracy", 0.5 + 0.1 * seed),
            ("validation_accuracy", 0.5),
            ("average", 0.3 * seed),
            ("novelty", 0.75),
        )
    ]
    text = transfer._table("task").markdown(page(found=points))
    assert "### fashion_mnist" in text
    # The error is the standard error of three seeds.
    assert "| from He | 0.6000 ± 0.0577 / 0.3000 / 0.75 (0.1) |" in text


def test_blocks_are_separate_and_the_date_is_named_once():
    assert body(page(Text("One"), Text(""), Text("Two"))) == (
        "One\n\nTwo\n\n2026-01-02; jax 1, wfm 2."
    )
    assert body(page(Text("One"), found=[])) == "One"
    assert json.dumps(HERE.versions)
    assert Column("title", {}, number(1)).title == "title"
