"""Flows used for other tasks and for other widths.

fashion: from MNIST to Fashion-MNIST and to wider networks; digits: from scikit-learn's digits to
MNIST in as many pixels; rivals: the guided flow of the headline on its own task, against training
with as many gradients.

Command    python -m experiments run transfer --workdir=runs/transfer --store=runs/store
Hardware   2 CPU cores
Time       docs/results/transfer.md, for each seed
Expected   docs/results/transfer.md
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs.base import mnist
from experiments import records as r
from experiments.curves import Curves
from experiments.pages import Block, Cost, Each, Table, each_value
from experiments.records import Record
from experiments.study import Row, Study

DIGITS: dict[str, Any] = {
    "task": "digits",
    "zoo": {"batch_size": 32, "epochs": 60, "burn_in": 59, "stride": 33},
    "transfer": {"task": "mnist_8x8", "widths": ()},
}
RIVALS: dict[str, Any] = {
    "transfer": {
        "task": "mnist",
        "widths": (),
        "gradients": (512, 2048),
        "scales": (64.0, 256.0),
    },
    "sampling": {"guidance_batch": 256, "guidance_rate": "hill"},
    "field": {"own_embedding": "all"},
    "flow": {"coupling": "independent"},
    "training": {"steps": 6000},
}
SEEDS = (0, 1, 2)


def get_study() -> Study:
    """An equivariant field, which works for networks of every width; `rivals`: the headline's."""
    base: Any = mnist()
    base.field.own_embedding = "fixed"
    base.flow.coupling = "equivariant"
    base.sampling.update({"networks": 32, "guidance_batch": 128, "guidance_rate": "falling"})
    config = base
    config.transfer = ConfigDict()
    config.transfer.task = "fashion_mnist"
    config.transfer.widths = (16, 32, 64)
    config.transfer.gradients = (32, 128)  # of one mini-batch each, for each network
    config.transfer.scales = (8.0, 32.0)  # of guidance
    config.transfer.rates = (0.01, 0.03, 0.1)  # of plain training
    rows = (
        Row({"task": "mnist", "to": "fashion_mnist"}),
        Row({"task": "digits", "to": "mnist_8x8"}, DIGITS),
        Row({"task": "mnist", "to": "mnist"}, RIVALS),
    )
    return Study("transfer", base, ("transfer",), rows, SEEDS, PAGE)


def best(found: Sequence[Record]) -> list[Record]:
    """For each way and number of gradients, the setting that is best on validation data.

    It is chosen for each seed separately; means over seeds keep the settings chosen.
    """
    kept: list[Record] = []
    settings: dict[tuple, set[float]] = {}
    names = ("task", "to", "part", "way", "width", "gradients")
    for place, mine in r.grouped(r.where(found, {"way": r.known}), *names, "seed").items():
        judged = r.where(mine, {"metric": "validation_accuracy"})
        chosen = max(judged, key=lambda x: x.value).at["setting"]
        settings.setdefault(place[:-1], set()).add(chosen)
        for x in r.where(mine, {"setting": chosen}):
            at = {k: v for k, v in x.at.items() if k != "setting"}
            kept.append(dataclasses.replace(x, at=at))
    means = r.over_seeds(kept)
    return [
        dataclasses.replace(
            x, at={**x.at, "settings": tuple(sorted(settings[tuple(map(x.get, names))]))}
        )
        for x in means
    ]


def _cell(found: Sequence[Record]) -> str:
    """Accuracy with its error, accuracy of the average, novelty, and chosen settings."""
    figures = {x.metric: x for x in found}
    if not figures:
        return ""
    accuracy, settings = figures["accuracy"], [f"{s:g}" for s in found[0].at["settings"] if s]
    at = f" ({', '.join(settings)})" if settings else ""
    novelty = f" / {figures['novelty'].value:.2f}" if "novelty" in figures else ""
    average = figures["average"].value
    return f"{accuracy.value:.4f} ± {accuracy.error or 0:.4f} / {average:.4f}{novelty}{at}"


def _table(part: str) -> Block:
    def heading(task: str, to: str, width: Any) -> str:
        return f"### {to}" if part == "task" else f"### {task}, width {width}"

    columns = each_value("gradients", _cell, int)
    table = Table("gradients", ("way",), columns, prepare=best)
    return Each(("task", "to", "width"), heading, (table,), {"part": part})


def _costs() -> Iterator[Block]:
    for seed in SEEDS:
        yield Each(("seed",), lambda seed: f"Seed {seed}:", (Cost(),), {"seed": seed})


def _limits(found: Sequence[Record]) -> tuple[float, None]:
    """The range of y: from the first gradients on; untrained networks lie far below."""
    return 0.95 * min(x.value for x in found if x.at["gradients"]), None


def _panel(task: str, to: str, part: str, width: int) -> str:
    return f"{to}, from {task}" if part == "task" else f"{task}, width {width}, from {task}"


PAGE: tuple[Block, ...] = (
    Curves(
        "Accuracy against gradients",
        x="gradients",
        lines="way",
        panels=("task", "to", "part", "width"),
        title=_panel,
        where={"part": r.known},
        prepare=lambda found: r.where(best(found), {"metric": "accuracy"}),
        axis={"xscale": "symlog", "ylabel": "test accuracy"},
        limits=_limits,
    ),
    Each(
        ("task", "to"),
        lambda task, to: f"## From {task} to {to}",
        (*_costs(), _table("task"), _table("width")),
        {"to": r.known},
    ),
)
