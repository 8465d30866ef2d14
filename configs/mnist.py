"""New MNIST classifiers 784-10-10 and 784-32-32-10, beside the published ones.

Command    python -m experiments run mnist --workdir=runs/mnist --store=runs/store
Hardware   2 CPU cores, 4.5 GB; trajectories and large 7 GB
Time       headline 48 minutes on one core; the others: in the page
Expected   docs/results/mnist.md
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from configs.base import mnist
from configs.mnist_ablation import (
    FALLING,
    FEW,
    HEADLINE,
    HILL,
    LONG,
    MEASURES,
    NAMES,
    SECTIONS,
    SLOW,
    row,
    seeded,
    title,
)
from configs.uci import KINDS
from configs.words import NETWORKS
from experiments import records as r
from experiments.curves import Curves
from experiments.pages import Block, Column, Picture, Table, Text, metric, number
from experiments.published import PUBLISHED
from experiments.records import Record
from experiments.study import Row, Study

COUPLINGS = ("independent", "ot")
FORMS = ("flows", "lossy", "guided", "unfolded")
CALIBRATION = {"accuracy": "accuracy", "nll": "NLL", "brier": "Brier", "ece": "ECE"}
LONGEST = HILL | {"guidance_rate": "falling"}


def _of_flow(study: str, kind: str, coupling: str, expected: str, changes: Mapping) -> Row:
    flow = {"kind": kind.lower(), "coupling": coupling} | changes.get("flow", {})
    return row(study, "", expected, {**changes, "flow": flow}, flow=kind, coupling=coupling)


def _flows() -> Iterator[Row]:
    for kind in KINDS:
        for coupling in COUPLINGS:
            yield _of_flow("flows", kind, coupling, "all alike", {"training": SLOW})
    for kind in KINDS[1:]:
        change = {"training": SLOW, "flow": {"last_layer": "sphere"}}
        expected = "published form of the last layer: a loss of 1.4"
        yield _of_flow("lossy", kind, "independent", expected, change)
    for kind in KINDS[1:]:
        change = {"training": SLOW, "sampling": FALLING}
        expected = "the loss of trained networks"
        yield _of_flow("guided", kind, "independent", expected, change)
    graph = {"field": {"kind": "transformer", "fold": False, "width": 16}}
    few = {"training": SLOW | {"steps": 1000, "batch_size": 8}}
    for kind in KINDS:
        for coupling in COUPLINGS:
            yield _of_flow("unfolded", kind, coupling, "worse: so few steps", graph | few)


def _growing() -> Iterator[Row]:
    for d in (8, 16, 32, 64, 128):
        change = {"training": SLOW, "field": {"width": d}}
        yield row("widths", f"{d} features", "better with each", change, size=d)
    stopped = SLOW | LONG | {"keep": "best"}
    for n, expected in (
        (60, "copies: accurate, and not novel"),
        (240, "between"),
        (1000, "the base"),
        (3000, "between"),
        (10_000, "better still"),
    ):
        change = {"zoo": {"networks": n}, "training": stopped}
        yield row("trajectories", f"{n:,} networks", expected, change, size=n)
    many = {"zoo": {"networks": 10_000}, "field": {"width": 128}, "training": stopped}
    name = "10,000 networks, 128 features"
    yield row("large", name, "a wide field needs many networks", many)
    expected = "an average as good as that of trained networks"
    yield row("large", name, expected, many | {"sampling": FALLING}, guidance="guided")


def _layers() -> Iterator[Row]:
    two = {
        "network": "mlp:32,32",
        "zoo": {"networks": 300},
        "field": {"kind": "transformer", "width": 48},
        "training": SLOW,
    }
    name = "two hidden layers"
    yield row("layers", name, "far below trained networks", two)
    falling = two | {"sampling": FALLING}
    yield row("layers", name, "within 0.003 of trained networks", falling, guidance="guided")
    expected, longest = "within 0.001: as many examples as training sees", {"sampling": LONGEST}
    yield row("layers", name, expected, two | longest, guidance="guided longer", **FEW)


ROWS = (*HEADLINE, *_flows(), *_growing(), *_layers())


def get_study() -> Study:
    """Every study that the page shows."""
    measures = (*MEASURES, "overview", "averages", "filters")
    return Study("mnist", mnist(), measures, tuple(map(seeded, ROWS)), page=PAGE)


def _quality(found: Sequence[Record]) -> str:
    figures = {x.metric: x for x in found}
    if not figures:
        return ""
    accuracy, loss = figures["accuracy"], figures["loss"]
    return f"{accuracy.value:.3f} ± {accuracy.std or 0:.3f} / {loss.value:.3f}"


def _published(found: Sequence[Record]) -> str:
    at = {n: found[0].get(n) for n in ("flow", "coupling", "set") if found[0].get(n)}
    quality = _quality(r.where(PUBLISHED, {"task": "mnist", "flow": None, "coupling": None} | at))
    return f"*{quality}*"


def _beside_published() -> Table:
    here = {"set": "samples", "metric": ("accuracy", "loss"), "averaged": None}
    columns = (
        Column("published", {}, _published),
        *(Column(form, {"study": form}, _quality) for form in FORMS),
    )
    names = ("flow", "coupling")
    return Table("flow", names, columns, here | {"flow": r.known, "study": FORMS}, title)


def _zoos() -> Table:
    """Figures of the zoo of the first flow of each form."""
    where = {"set": "trained", "metric": ("accuracy", "loss"), "averaged": None, "study": FORMS}

    def first(found: Sequence[Record]) -> str:
        return _quality(r.where(found, {n: found[0].get(n) for n in NAMES}) if found else [])

    columns = (
        Column("published", {}, lambda found: _published(r.where(PUBLISHED, {"set": "trained"}))),
        *(Column(form, {"study": form}, first) for form in FORMS),
    )
    return Table("networks", ("set",), columns, where, title=lambda _: "trained networks")


def _diversity() -> Table:
    columns = (
        metric("divergence", "divergence", number(4), set="samples"),
        metric("with kernel densities", "kernel_divergence", number(5), set="samples"),
        metric("of trained networks", "divergence", number(4), set="trained"),
        metric("with kernel densities", "kernel_divergence", number(5), set="trained"),
    )
    where = {"study": FORMS, "set": r.known, "averaged": None}
    return Table("networks", ("study", *NAMES), columns, where, title=_with_study)


def _with_study(study: str, *names: Any) -> str:
    return title(*names) + ("" if study == "flows" else f", {study}")


def _novelty() -> tuple[Table, Table]:
    columns = tuple(
        metric(title, name, number(4))
        for title, name in (
            ("accuracy", "accuracy"),
            ("loss", "loss"),
            ("novelty", "novelty"),
            ("disagrees", "disagreement"),
        )
    )
    trivial = ("held out", "noise", "averages", "crossed")
    first = {"study": "headline", "guidance": None, "averaged": None}
    return (
        Table("networks", ("set",), columns, first | {"set": trivial}, NETWORKS.__getitem__),
        Table(
            "networks",
            NAMES,
            columns,
            {"study": "headline", "set": "samples", "averaged": None},
            title,
        ),
    )


def _predictive(study: str) -> Table:
    """Calibration of single networks, averages and mean weights, for samples and deep ensembles."""
    columns = tuple(metric(heading, name, number(4)) for name, heading in CALIBRATION.items())

    def name(kind: str, guidance: Any, averaged: int) -> str:
        row = "trained" if kind == "trained" else "samples" + f", {guidance}" * bool(guidance)
        return f"{row}, {'alone' if averaged == 1 else f'average of {averaged}'}"

    rows = ("set", "guidance", "averaged")
    return Table(study, rows, columns, {"study": study, "averaged": (1, 32)}, name)


def _mean_weights(study: str) -> Table:
    columns = (metric("accuracy of one network of mean weights", "mean_weights", number(4)),)
    where = {"study": study, "metric": "mean_weights"}
    return Table(study, ("set", "guidance"), columns, where)


PICTURES = {
    "overview": "Accuracy, loss, and a map of weights",
    "filters": "First-layer weights of trained networks (above) and of samples (below)",
    "averages": "Accuracy of averages",
}
SHOWN = {"drawn": HEADLINE[0].at, "guided": HEADLINE[-1].at}
PAGE: tuple[Block, ...] = (
    Text("## Beside the published figures\n\nAccuracy ± spread over networks / loss (nats)."),
    _beside_published(),
    _zoos(),
    Text(
        "## Diversity\n\nMean over pairs, in nats. Published, with kernel densities: 0.0007 to "
        "0.0012, trained networks 0.00002."
    ),
    _diversity(),
    Text("## Novelty, beside trivial ways to new networks"),
    *_novelty(),
    Text("## Alone, averaged, and in one network of mean weights"),
    *(of(study) for study in ("headline", "large") for of in (_predictive, _mean_weights)),
    *(
        Picture(f"{caption}: {way}", f"{file}.png", f"{way}-{file}", at)
        for way, at in SHOWN.items()
        for file, caption in PICTURES.items()
    ),
    Curves(
        "Accuracy, average and novelty by what grows",
        x="size",
        lines="metric",
        panels=("study",),
        where={
            "study": ("trajectories", "widths"),
            "set": "samples",
            "averaged": None,
            "metric": ("accuracy", "average", "novelty"),
        },
        axis={"xscale": "log"},
        name="growth",
    ),
    SECTIONS,
)
