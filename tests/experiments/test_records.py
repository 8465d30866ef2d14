"""Records: kept as they are, found by their coordinates, and seen over seeds."""

import json
import re

import numpy as np
import pytest

from experiments.records import (
    Figure,
    Record,
    Source,
    grouped,
    known,
    over_seeds,
    read,
    save,
    spread,
    values,
    where,
)
from wfm.errors import UserError

HERE = Source("run a", "a machine", "today", {"jax": "1"})
THERE = Source("run b", "another", "then", {"jax": "2"})
RECORDS = [
    Record({"flow": "b", "steps": 8, "seed": 0}, "loss", 0.5, std=0.1, seconds=3.0, source=HERE),
    Record({"flow": "a", "t": "as trained"}, "loss", -1.5, error=0.0, source=THERE),
    Record({"flow": "ε"}, "accuracy", 1 / 3, seeds=(2, 1), seed_std=0.25, source=HERE),
    Record({}, "novelty", 2.0),
]


def test_what_is_read_is_what_was_saved(tmp_path):
    file = tmp_path / "new" / "records.json"
    save(file, RECORDS)
    assert read(file) == RECORDS
    assert [p.name for p in file.parent.iterdir()] == ["records.json"]  # and nothing half-written
    found = json.loads(file.read_text())
    assert len(found["sources"]) == 2  # each once
    assert found["records"][3] == {"at": {}, "metric": "novelty", "value": 2.0}  # no None
    assert "ε" in file.read_text()
    assert len(file.read_text().splitlines()) == 2 + 4 + 4  # a line each


def test_no_records_are_records(tmp_path):
    save(tmp_path / "records.json", [])
    assert read(tmp_path / "records.json") == []


DAMAGES = {
    "truncated": b'{"sources": [], "rec',
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "binary": b"\xff\xfe\0\1",
    "without sources": b'{"records": []}',
    "of an unknown source": b'{"sources": [], "records": [{"at": {}, "source": 3}]}',
    "of other things": b'{"sources": [], "records": [{"row": "a", "value": 1}]}',
    "text for a number": b'{"sources": [], "records": [{"at": {}, "metric": "", "value": "1"}]}',
    "numbers": b'{"sources": [], "records": [1]}',
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_records_are_named(damage, tmp_path):
    file = tmp_path / "records.json"
    file.write_bytes(DAMAGES[damage])
    with pytest.raises(UserError, match=re.escape(f"{file} is damaged (")):
        read(file)
    assert file.read_bytes() == DAMAGES[damage]


def test_records_of_a_newer_version(tmp_path):
    save(tmp_path / "records.json", RECORDS)
    text = (tmp_path / "records.json").read_text()
    (tmp_path / "records.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match=r"has format 2, and this version .* install a newer one"):
        read(tmp_path / "records.json")
    (tmp_path / "records.json").write_text(text.replace('"format": 1, ', ""))
    assert read(tmp_path / "records.json") == RECORDS  # as the first were written


def test_records_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"there are no records at .*; run the study first"):
        read(tmp_path / "records.json")


POINTS = [
    Record({"flow": flow, "steps": steps, "seed": 0}, metric, value)
    for flow, steps, metric, value in (
        ("b", 8, "loss", 1.0),
        ("b", 1, "loss", 2.0),
        ("a", 8, "loss", 3.0),
        ("a", 8, "accuracy", 4.0),
    )
] + [Record({"way": "zoo"}, "loss", 5.0)]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"flow": "b"}, [1, 2]),
        ({"flow": ("a", "c"), "metric": "loss"}, [3]),
        ({"flow": None}, [5]),
        ({"flow": known}, [1, 2, 3, 4]),
        ({"steps": lambda n: n and n < 8}, [2]),
        ({"steps": "8"}, []),
        ({"metric": ("loss", "accuracy"), "steps": 8}, [1, 3, 4]),
        ({"flow": (None, "a")}, [3, 4, 5]),
    ],
)
def test_records_are_found_by_their_coordinates_and_keep_their_order(at, expected):
    assert [r.value for r in where(POINTS, at)] == expected


def test_values_and_groups_come_in_the_order_of_the_records():
    assert values(POINTS, "flow") == [("b",), ("a",), (None,)]
    assert values(POINTS, "flow", "metric") == [
        ("b", "loss"),
        ("a", "loss"),
        ("a", "accuracy"),
        (None, "loss"),
    ]
    groups = {k: [r.value for r in v] for k, v in grouped(POINTS, "flow").items()}
    assert list(groups.items()) == [(("b",), [1, 2]), (("a",), [3, 4]), ((None,), [5])]


def of_seeds(found, **more):
    return [
        Record({"flow": "a", "seed": s}, "loss", v, **{k: of[s] for k, of in more.items()})
        for s, v in enumerate(found)
    ]


def test_spread_over_seeds_is_that_of_a_sample():
    found, stds = (0.1, 0.2, 0.6), (0.3, 0.4, 0.8)
    (mean,) = over_seeds(of_seeds(found, std=stds, error=(1.0, 1.0, 1.0)))
    assert mean.at == {"flow": "a"}
    assert mean.seeds == (0, 1, 2)
    assert mean.value == pytest.approx(np.mean(found))
    assert mean.seed_std == pytest.approx(0.07**0.5)  # (0.04 + 0.01 + 0.09) / 2
    assert mean.seed_std == pytest.approx(np.std(found, ddof=1))
    assert mean.error == pytest.approx(np.std(found, ddof=1) / 3**0.5)  # that of their mean
    assert mean.std == pytest.approx(np.mean(stds))  # over networks


def test_one_seed_keeps_its_own_error_and_has_no_spread():
    (mean,) = over_seeds(of_seeds([0.5], error=[0.2]))
    assert (mean.value, mean.error, mean.seed_std, mean.std) == (0.5, 0.2, None, None)
    assert mean.seeds == (0,)
    assert spread([0.5]) is None


def test_means_over_seeds_keep_places_metrics_and_order_apart():
    mixed = [
        Record({"flow": "b", "seed": 1}, "loss", 1.0),
        Record({"flow": "a", "seed": 1}, "loss", 5.0),
        Record({"seed": 2, "flow": "b"}, "loss", 3.0),
        Record({"flow": "b", "seed": 1}, "accuracy", 9.0),
        Record({"flow": "z"}, "loss", 7.0),  # which has no seed, and stays
    ]
    means = over_seeds(mixed)
    assert [(m.at["flow"], m.metric, m.value) for m in means] == [
        ("b", "loss", 2.0),
        ("a", "loss", 5.0),
        ("b", "accuracy", 9.0),
        ("z", "loss", 7.0),
    ]
    assert means[3] is mixed[4]


def test_a_figure_is_a_number_with_what_there_is():
    assert Figure(0.5) == (0.5, None, None)
