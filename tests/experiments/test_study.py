"""Studies: their rows, what those change, and where their figures belong."""

import dataclasses
import json
import re

import pytest
from ml_collections import ConfigDict

from experiments.measures import MEASURES
from experiments.runner import check
from experiments.store import Store
from experiments.study import Row, Study, config_module, load, names
from tests.experiments.tiny import write_tasks
from wfm.errors import UserError

ALL = [
    f"{name}:{variant}" if variant else name
    for name in names()
    for variant in ("", *getattr(config_module(name), "VARIANTS", ()))
]


def study(*rows, **changes):
    base = {"seed": 0, "task": "iris", "split": 1, "averages": (1, 2), "training": {"steps": 5}}
    base |= {"sampling": {"networks": 3, "steps": 4}, "flow": {"kind": "euclidean"}}
    return Study("tried", ConfigDict(base), ("quality",), rows or (Row({}),), **changes)


FLOWS = (
    Row({"flow": "b"}, {"flow": {"kind": "normalized"}}),
    Row({"flow": "a"}, {"training": {"steps": 7}}),
    Row({"flow": "b", "size": 3}, seeds=(9,), measures=("size",)),
    Row({"flow": "c"}, dear=True),
)


def test_a_study_without_rows_is_its_base():
    (cell,) = study().cells()
    assert cell.at == {"seed": 0}
    assert cell.config.to_dict() == study().base.to_dict()
    assert cell.measures == ("quality",)


def test_rows_and_seeds_keep_their_order_and_change_the_base_alone():
    tried = study(*FLOWS, seeds=(2, 1))
    cells = tried.cells()
    assert [tuple(c.at.values()) for c in cells] == [
        ("b", 2),
        ("b", 1),
        ("a", 2),
        ("a", 1),
        ("b", 3, 9),
    ]
    assert [c.config.seed for c in cells] == [2, 1, 2, 1, 9]
    assert [c.config.flow.kind for c in cells] == ["normalized"] * 2 + ["euclidean"] * 3
    assert [c.config.training.steps for c in cells] == [5, 5, 7, 7, 5]
    assert [c.measures for c in cells] == [("quality",)] * 4 + [("size",)]
    assert tried.base == study().base


def test_only_rows_that_are_asked_for():
    tried = study(*FLOWS)
    places = lambda only: [list(c.at.values()) for c in tried.cells(only)]  # noqa: E731
    assert places({"flow": "b"}) == [["b", 0], ["b", 3, 9]]
    assert places({"flow": "b", "size": "3"}) == [["b", 3, 9]]  # as a command line has it
    assert places({"flow": "c"}) == [["c", 0]]  # which is dear
    assert [c.at["flow"] for c in tried.cells({"flow": "a"}, every=True)] == ["b", "a", "b", "c"]
    told = "study tried has no row at size 4; its rows have flow: b, a, c; size: 3"
    with pytest.raises(UserError, match=told):
        tried.cells({"size": "4"})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("task", {"task": "wine"}),
        ("split", {"split": 2}),
        ("averages", {"averages": (1, 3)}),
        ("networks", {"sampling": {"networks": 4}}),
    ],
)
def test_a_row_that_is_measured_otherwise_says_so_in_its_coordinates(name, change):
    with pytest.raises(UserError, match=f"name '{name}' among its coordinates"):
        study(Row({"flow": "a"}, change)).cells()
    assert len(study(Row({"flow": "a", name: "another"}, change)).cells()) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trainings": {"steps": 3}}, "row flow a cannot change its config: .*trainings"),
        ({"training": {"step": 3}}, "row flow a cannot change its config: .*step"),
        ({"training": {"steps": "many"}}, "row flow a cannot change its config: .*steps"),
        ({"training": 3}, "row flow a cannot change its config: "),
    ],
)
def test_a_row_changes_what_there_is(change, told):
    with pytest.raises(UserError, match=told):
        study(Row({"flow": "a"}, change)).cells()


def test_two_rows_at_one_place_are_refused():
    told = re.escape('two rows of study tried are both at {"flow": "a", "seed": 0}')
    with pytest.raises(UserError, match=told):
        study(Row({"flow": "a"}), Row({"flow": "a"}, {"training": {"steps": 3}})).cells()
    with pytest.raises(UserError, match="are both at"):
        study(Row({"flow": "a"}, seeds=(1, 1))).cells()


def test_a_key_of_the_base_is_overridden_for_all_rows():
    cells = study(*FLOWS).overridden(["sampling.steps=8"]).cells()
    assert {c.config.sampling.steps for c in cells} == {8}
    assert study(*FLOWS).base.sampling.steps == 4


@pytest.mark.parametrize("option", ["flow.kind=geometric", "training.steps=3"])
def test_a_key_that_a_row_sets_is_not_overridden(option):
    key = option.partition("=")[0]
    with pytest.raises(UserError, match=f"row flow [ab] of study tried sets {key} itself"):
        study(*FLOWS).overridden([option])


def test_a_seed_that_is_given_is_that_of_all_rows():
    cells = study(*FLOWS, seeds=(3, 4)).overridden(["seed=1"]).cells()
    assert [c.at["seed"] for c in cells] == [c.config.seed for c in cells] == [1, 1, 1]


ELSEWHERE = '''"""Mine."""

from configs.demo import get_study as demo

VARIANTS = ("other",)


def get_study(variant=""):
    study = demo()
    study.base.network = "mlp:7" if variant else "mlp:5"
    return study
'''


def test_a_study_from_elsewhere(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(ELSEWHERE)
    assert load(str(file)).base.network == "mlp:5"
    assert load(f"{file}:other").base.network == "mlp:7"
    with pytest.raises(UserError, match="has no variant 'nix'; choose one of other"):
        load(f"{file}:nix")


@pytest.mark.parametrize("name", ["none", "", "__init__", "_hidden.py", "demo.py", "base", "words"])
def test_what_is_no_study(name):
    with pytest.raises(UserError, match=f"there is no study '{name}'; choose one of accelerator, "):
        load(name)


@pytest.mark.parametrize("name", ALL)
def test_rows_of_every_study_have_places_of_their_own_and_known_measures(name):
    cells = load(name).cells(every=True)
    places = {json.dumps(cell.at, sort_keys=True) for cell in cells}
    assert len(places) == len(cells)
    for cell in cells:
        assert cell.measures
        assert set(cell.measures) <= MEASURES.keys()
        assert len(set(cell.measures)) == len(cell.measures)


def test_pages_have_names_of_their_own():
    pages = {name: load(name).name for name in ALL}
    of_demo = {name for name, page in pages.items() if page == "demo"}
    assert of_demo == {name for name in ALL if name.startswith("demo")}
    # The small variant of `accelerator` is a check, not a page.
    other = set(ALL) - of_demo - {"accelerator:small"}
    others = [page for name, page in pages.items() if name in other]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("name", ["mnist", "mnist_ablation"])
def test_every_row_on_mnist_has_an_expectation(name):
    assert all(row.expected for row in load(name).rows)


@pytest.mark.parametrize(
    "name", ["accelerator:small", "barriers", "demo", "demo:settings", "gaussian", "steps", "uci"]
)
def test_every_row_of_a_preset_is_a_possible_run(name, tmp_path):
    check(load(name).cells(every=True), Store(tmp_path))


ON_IMAGES = (
    "accelerator",
    "mnist",
    "mnist_ablation",
    "path_errors",
    "published",
    "steps:mnist",
    "transfer",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_IMAGES)
def test_every_row_of_a_preset_on_images_is_a_possible_run(name, tmp_path, monkeypatch):
    write_tasks(tmp_path, monkeypatch, "mnist", "fashion_mnist", classes=10, official=True)
    check(load(name).cells(every=True), Store(tmp_path))


@pytest.mark.parametrize(
    ("name", "of_task", "aligned"),
    [
        ("uci", {"breast_cancer": 9, "wine": 9, "digits": 9}, 3),
        ("published", {"breast_cancer": 9, "mnist": 6}, 3),
    ],
)
def test_tables_have_all_flows(name, of_task, aligned):
    for task, number in of_task.items():
        kinds = {"Euclidean", "Normalized", "Geometric"}
        rows = [
            r for r in load(name).rows if r.at["task"] == task and r.at.get("flow", "") in kinds
        ]
        assert len(rows) == number
        assert {row.at["flow"] for row in rows} == kinds
        assert sum(row.change["flow"].get("coupling") == "ot" for row in rows) == aligned


def test_the_rows_of_one_zoo_differ_in_their_flow_alone():
    of_zoo = ("task", "split", "network", "zoo")
    rows = [c for c in load("uci").cells({"task": "wine"}) if "flow" in c.at]
    zoos = {json.dumps({k: c.config.to_dict()[k] for k in of_zoo}, default=list) for c in rows}
    assert len(zoos) == 1


def test_a_study_may_be_changed_by_hand():
    changed = dataclasses.replace(load("uci"), seeds=(0,), rows=load("uci").rows[:1])
    assert len(changed.cells()) == 1
