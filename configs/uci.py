"""Nine flows on three small data sets, beside the thesis's table, and barriers of their zoos.

Command    python -m experiments run uci --workdir=runs/uci --only=task=wine
Hardware   2 CPU cores, 3.3 GB
Time       31 minutes breast_cancer, 22 digits, 16 wine
Expected   docs/results/uci.md
"""

from collections.abc import Iterator, Sequence
from typing import Any

from configs.base import small
from experiments import records as r
from experiments.pages import (
    Block,
    Column,
    Cost,
    Each,
    Picture,
    Table,
    Text,
    each_value,
    joined,
    metric,
    number,
    over_seeds,
    total,
)
from experiments.published import PUBLISHED
from experiments.study import Row, Study

KINDS = ("Euclidean", "Normalized", "Geometric")
TASKS: dict[str, dict[str, Any]] = {
    "breast_cancer": {},
    "wine": {"network": "mlp:16", "zoo": {"epochs": 300, "burn_in": 60}},  # an epoch is three steps
    "digits": {"network": "mlp:16"},
}
# Only aligned neurons have a fixed place to be recognised by.
WEIGHTS: dict[str, dict[str, Any]] = {
    "as trained": {"flow": {"align": "none"}, "field": {"own_embedding": "fixed"}},
    "aligned": {},
    "aligned + OT": {"flow": {"coupling": "ot"}},
}
# Used by most other systems: a plain network on the aligned, flattened weights.
FLAT = {"flow": {"kind": "euclidean"}, "field": {"kind": "mlp", "width": 256}}
BARRIERS = ("barriers", "barrier_maps")
QUALITY = joined("metric", {m: number(3, std=3) for m in ("accuracy", "loss")})


def get_study() -> Study:
    """Every flow on every data set, with three seeds."""
    base = small()
    base.training.steps = 500
    base.sampling.steps = 64
    rows = tuple(row for task in TASKS for row in _rows(task))
    page = tuple(_section(task) for task in TASKS)
    return Study("uci", base, ("quality", "novelty"), rows, (0, 1, 2), page)


def _rows(task: str) -> Iterator[Row]:
    change: dict[str, Any] = {"task": task} | TASKS[task]
    for kind in KINDS:
        for weights, other in WEIGHTS.items():
            flow = {"kind": kind.lower()} | other.get("flow", {})
            at = {"task": task, "flow": kind, "weights": weights}
            yield Row(at, change | other | {"flow": flow})
    yield Row(
        {"task": task, "flow": "flat MLP field, Euclidean", "weights": "aligned"}, change | FLAT
    )
    zoo = {"networks": 250} | TASKS[task].get("zoo", {})
    at = {"task": task, "networks": 250}
    yield Row(at, change | {"zoo": zoo}, seeds=(0,), measures=BARRIERS)


def _section(task: str) -> Block:
    samples = {"set": "samples", "flow": r.known}
    spread = (
        metric("accuracy, over seeds", "accuracy", over_seeds(4), set="samples"),
        metric("loss, over seeds", "loss", over_seeds(4), set="samples"),
        metric("novelty", "novelty", number(3), set="samples"),
        metric("disagrees", "disagreement", number(3), set="samples"),
        metric("seconds", "seconds", total(0)),
    )
    zoo = (
        Column("accuracy / loss", {}, QUALITY),
        Column("published", {}, lambda found: _published(task, set="zoo")),
        metric("accuracy, over seeds", "accuracy", over_seeds(4)),
        metric("loss, over seeds", "loss", over_seeds(4)),
    )
    blocks = (
        Cost(),
        Table(
            "flow",
            ("flow",),
            each_value("weights", QUALITY),
            samples,
            beside=lambda flow: _beside(task, flow),
        ),
        Table("row", ("flow", "weights"), spread, {"flow": r.known}),
        Table("networks", ("set",), zoo, {"set": "zoo"}),
        Text(f"Barriers between 250 networks, in nats.{_barriers(task)}"),
        barrier_table(),
        Picture("Barriers of all pairs", "barriers.png", task, {"task": task, "networks": 250}),
    )
    title = f"## {task.replace('_', ' ').capitalize()}"
    return Each(("task",), lambda _: title, blocks, {"task": task})


def barrier_table() -> Table:
    """Barriers by alignment method and kind of path."""
    paths = ("line", "line, max", "line, train", "geodesic")
    columns = tuple(metric(path, path, number(4, error=4)) for path in paths)
    return Table("aligned by", ("aligned",), columns, {"aligned": r.known})


def _published(task: str, **at: str) -> str:
    return QUALITY(r.where(PUBLISHED, {"task": task, **at}))


def _beside(task: str, flow: str) -> Sequence[Sequence[str]]:
    cells = [_published(task, flow=flow, weights=weights) for weights in WEIGHTS]
    return [["*published*", *cells]] if any(cells) else []


def _barriers(task: str) -> str:
    found = r.where(PUBLISHED, {"task": task, "metric": "line"})
    if not found:
        return ""
    before, after = (x.value for x in found)
    return f" Published: {before} before alignment, {after} after."
