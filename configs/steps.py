"""Quality against the number of integration steps, on breast cancer or MNIST.

Command    python -m experiments run steps --workdir=runs/steps
Hardware   2 CPU cores
Time       30 to 50 minutes a flow on one core
Expected   docs/results/steps.md, docs/results/mnist-steps.md
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs.base import mnist, small
from experiments import records as r
from experiments.curves import Curves
from experiments.pages import Column, Cost, Each, Page, Table, Text, each_value, number
from experiments.records import Record
from experiments.study import Row, Study

VARIANTS = ("mnist",)
COMPARED = (
    ("euler", 64),
    ("midpoint", 8),
    ("euler guided", 64),
    ("adam from prior", 64),
    ("adam from samples", 64),
    ("descent from samples", 64),
)
ERRORS = (
    "Test loss (nats) ± its standard error over networks, by way and steps. Each error is of one "
    "way by itself; all ways share their draws, so that these errors do not tell how sure a "
    "difference between two of them is:"
)
STYLES = {
    "euler": "C0:",
    "midpoint": "C1:",
    "rk4": "C2:",
    "euler guided": "C0-",
    "midpoint guided": "C1-",
    "rk4 guided": "C2-",
    "adam from prior": "k--",
    "adam from samples": "C4--",
    "descent from samples": "C5--",
    "descent from prior": "C7--",
}
METRICS = ("loss", "accuracy", "novelty")


def get_study(variant: str = "") -> Study:
    """The demo's flow and its siblings, or that of MNIST, sampled in every way."""
    base: Any = mnist() if variant else small()
    config = base
    config.steps = ConfigDict()
    config.steps.solvers = ("euler", "midpoint", "rk4")
    config.steps.numbers = (1, 2, 4, 8, 16, 64, 128, 256, 512)
    config.steps.guidance = 10.0  # of breast cancer: lowest validation loss of 0.1, …, 30, 100
    if variant:
        base.sampling.update({"networks": 32, "guidance_batch": 128, "guidance_rate": "falling"})
        base.training.learning_rate = 5e-3
        base.steps.update({"solvers": ("euler", "midpoint"), "numbers": (1, 4, 16, 64, 256)})
        rows = (Row({"flow": "geometric"}),)
    else:
        rows = tuple(
            Row({"flow": kind}, {"flow": {"kind": kind}})
            for kind in ("euclidean", "normalized", "geometric")
        )
        again = {"steps": {"numbers": (8, 64)}}
        rows = (*rows, Row({"flow": "geometric", "repeat": 1}, again, seeds=(1,)))
    name = "mnist-steps" if variant else "steps"
    return Study(name, base, ("steps",), rows, page=PAGE)


def _compared(found: Sequence[Record]) -> tuple[Column, ...]:
    loss = {"metric": "loss"}
    columns = (
        Column(f"{way}, {n}", loss | {"way": way, "steps": n}, number(4, error=4))
        for way, n in COMPARED
    )
    return (Column("zoo", loss | {"way": "zoo"}, number(4)), *columns)


def _zoo(page: Page) -> str:
    zoo = {x.metric: x.value for x in r.where(page.records, {"way": "zoo"})}
    return f"Zoo: loss {zoo['loss']:.4f}, accuracy {zoo['accuracy']:.4f}."


def _limits(found: Sequence[Record]) -> tuple[float, float]:
    """The range of y: every way is seen at its best; few steps from the prior end far above."""
    best = [min(x.value for x in mine) for mine in r.grouped(found, "way").values()]
    return 0.8 * min(best), 1.1 * max(best)


def _by_steps(name: str) -> Table:
    where = {"metric": name, "steps": r.known}
    return Table(name, ("way",), each_value("steps", number(4), int), where, prepare=list)


PAGE = (
    Curves(
        "Test loss against steps",
        x="steps",
        lines="way",
        panels=("flow",),
        where={"metric": "loss", "repeat": None},
        level={"way": "zoo"},
        shown=STYLES,
        axis={"xscale": "log", "ylabel": "test loss (nats)"},
        limits=_limits,
    ),
    Text(ERRORS),
    Table(
        "flow",
        ("flow", "seed"),
        _compared,
        title=lambda flow, seed: f"{flow}, seed {seed}",
        where={"way": r.known},
        prepare=list,
    ),
    Each(
        ("flow", "seed"),
        lambda flow, seed: f"## {flow.capitalize()}, seed {seed}",
        (Cost(), Text(_zoo), *map(_by_steps, METRICS)),
        {"flow": r.known},
    ),
)
