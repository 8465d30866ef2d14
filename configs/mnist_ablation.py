"""What was tried to raise the quality of new MNIST networks, each changing the base in one thing.

Command    python -m experiments run mnist_ablation --workdir=runs/mnist-ablation --store=runs/store
Hardware   2 CPU cores, 6 GB
Time       on one core: tried 56 minutes, headline 48; the others: in the page
Expected   docs/results/mnist-ablation.md
"""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.base import mnist
from experiments import records as r
from experiments.curves import Dots
from experiments.pages import Block, Column, Each, Page, Table, Text, metric, number, seeds
from experiments.records import Record
from experiments.study import Row, Study

MEASURES = ("quality", "size", "novelty", "together")
EQUIVARIANT = {"own_embedding": "fixed"}
SLOW = {"learning_rate": 5e-3}  # what `rates` found, and all studies after it use
LONG = {"steps": 6000}
BY_METRIC = {"flow": {"weighting": "none"}}
EULER = {"solver": "euler", "guidance_batch": 128}
GUIDED = EULER | {"guidance": 8.0, "steps": 512}
LONGER = EULER | {"guidance": 16.0, "steps": 1024}
FALLING = EULER | {"guidance": 128.0, "steps": 1024, "guidance_rate": "falling"}
# Expensive, so few networks are drawn; rows that use it name their number.
HILL = {
    "solver": "euler",
    "guidance": 256.0,
    "steps": 2048,
    "guidance_batch": 256,
    "guidance_rate": "hill",
    "networks": 32,
}
FEW = {"networks": 32}  # a coordinate


def row(study: str, change: str, expected: str, changes: Mapping[str, Any], /, **more: Any) -> Row:
    """A row of a study: its change in words, what was expected, and `more` coordinates."""
    at = {"study": study} | ({"change": change} if change else {}) | more
    return Row(at, changes, expected)


def _tried(change: str, expected: str, changes: Mapping[str, Any]) -> Row:
    return row("tried", change, expected, changes)


TRIED = (
    _tried("base", "where all rows start", {}),
    _tried("guided", "gradients mend what the field gets wrong", {"sampling": GUIDED}),
    _tried(
        "guided at x_t",
        "worse than at the end point: early on x_t computes nothing yet",
        {"sampling": GUIDED | {"guidance_at": "x_t"}},
    ),
    _tried("noise in sampling", "errors are forgotten", {"sampling": {"noise": 0.03, "steps": 64}}),
    _tried(
        "neighbours",
        "worse: folded neurons of one layer have no edges and meet in one node",
        {"field": {"kind": "transformer"}},
    ),
    _tried(
        "flat field",
        "better than a graph: aligned neurons need no symmetry",
        {"field": {"kind": "mlp", "width": 512}, "training": {"optimizer": "adam"}},
    ),
    _tried("equivariant", "worse: it cannot know which neuron it sees", {"field": EQUIVARIANT}),
    _tried(
        "equivariant OT",
        "shorter ways, easier to learn",
        {"field": EQUIVARIANT, "flow": {"coupling": "equivariant"}},
    ),
    _tried(
        "trajectory",
        "what training does is a function of the start",
        {"field": EQUIVARIANT, "flow": {"coupling": "trajectory"}},
    ),
    _tried("end point", "the same", {"flow": {"prediction": "end_point"}}),
    _tried("uniform times", "details are decided late", {"flow": {"time_b": 1.0}}),
    _tried("early times", "large components are decided early", {"flow": {"time_b": 6.0}}),
    _tried("width 32", "worse", {"field": {"width": 32}}),
    _tried("width 128", "better", {"field": {"width": 128}}),
    _tried("6,000 steps", "better, at less novelty", {"training": LONG}),
    _tried(
        "lossy last layer",
        "the loss suffers, the accuracy does not",
        {"flow": {"last_layer": "sphere"}},
    ),
)
HEADLINE = (
    row("headline", "6,000 steps", "as one seed found", {"training": LONG}),
    row(
        "headline",
        "6,000 steps",
        "longer guidance, in steps as short, raises the average",
        {"training": LONG, "sampling": FALLING},
        guidance="guided",
    ),
    row(
        "headline",
        "6,000 steps",
        "the average of trained networks: as many examples as they see",
        {"training": LONG, "sampling": HILL},
        guidance="guided longer",
        **FEW,
    ),
)
RATES = (
    row(
        "rates",
        "slow",
        "better: 128 features, which went worst, ask for short steps",
        {"training": SLOW},
    ),
    row(
        "rates",
        "slow, 128",
        "better than 64 features",
        {"training": SLOW, "field": {"width": 128}},
    ),
    row("rates", "slow, 6,000", "better than either", {"training": SLOW | LONG}),
    row(
        "rates",
        "slow, 6,000",
        "better than either",
        {"training": SLOW | LONG, "sampling": LONGER},
        guidance="guided",
    ),
)
WIDE = {"zoo": {"prior_std": 0.1}}  # the zoo's prior and the flow's have the same scale


def _lever(change: str, expected: str, changes: Mapping[str, Any]) -> Row:
    return row("levers", change, expected, {"training": SLOW, **changes})


LEVERS = (
    _lever("slow", "where these rows start", {}),
    _lever("no average", "worse: late steps still jump", {"training": SLOW | {"ema_decay": 0.0}}),
    _lever(
        "loss by entries",
        "better first layers, worse small arrays",
        {"flow": {"weighting": "entries"}},
    ),
    _lever("loss by metric", "worse: what is small is not learned", BY_METRIC),
    _lever("wide start", "harder: more of a network is chance", WIDE),
    _lever(
        "wide start, Euclidean",
        "worse still: its paths start farther away, too",
        WIDE | {"flow": {"kind": "euclidean"}},
    ),
    _lever(
        "steep zoo",
        "easier: networks forget their start",
        {"zoo": {"prior_std": 0.1, "learning_rate": 0.1, "weight_decay": 1e-3}},
    ),
)
METRIC = (  # after `levers`
    row("metric", "by metric, 6,000", "better than 0.849", BY_METRIC | {"training": SLOW | LONG}),
    row(
        "metric",
        "by metric, 6,000",
        "as good as from the other loss, if newer",
        BY_METRIC | {"training": SLOW | LONG, "sampling": HILL},
        guidance="guided longer",
        **FEW,
    ),
    row(
        "metric",
        "by metric, 128",
        "better than 0.838",
        BY_METRIC | {"training": SLOW, "field": {"width": 128}},
    ),
)
STUDIES = (HEADLINE, TRIED, RATES, LEVERS, METRIC)
THRICE = ("headline", "flows", "lossy", "guided", "layers")  # with three seeds


def get_study() -> Study:
    """Every study that asked what helps."""
    rows = tuple(seeded(x) for study in STUDIES for x in study)
    picture = Dots(
        "Accuracy, and that of averages, against novelty",
        x="novelty",
        metrics=("accuracy", "average"),
        group="study",
        title=lambda record: title(*(record.get(name) for name in NAMES)),
        where={"set": "samples", "averaged": None},
        shown={"novelty": (0.45, 1.3), "accuracy": (0.65, 0.96), "average": (0.93, 0.96)},
        levels={"accuracy": 0.90, "novelty": 0.5, "average": 0.950},
    )
    return Study("mnist-ablation", mnist(), MEASURES, rows, page=(picture, SECTIONS))


def seeded(x: Row) -> Row:
    """The row with the seeds of its study."""
    seeds = (0, 1, 2) if x.at["study"] in THRICE else (0,)
    return Row(x.at, x.change, x.expected, seeds)


NAMES = ("flow", "coupling", "change", "guidance")
ENDS = {"unfolded": ", plain graph", "lossy": " lossy"}


def title(flow: Any = None, coupling: Any = None, change: Any = None, guidance: Any = None) -> str:
    """The name of a row."""
    first = f"{flow} + OT" if coupling == "ot" else flow
    if flow and guidance:
        first = f"{flow} {guidance}"
        guidance = None
    return ", ".join(str(part) for part in (first, change, guidance) if part)


def _samples(heading: str, name: str, cell: Any) -> Column:
    return metric(heading, name, cell, set="samples", averaged=None)


def _columns(found: Sequence[Record]) -> tuple[Column, ...]:
    known = {record.metric for record in found}
    chosen_by = {"validation_accuracy": "validation", "validation_average": "validation, average"}
    names = {m: t for m, t in chosen_by.items() if m in known}  # old runs lack some
    names |= {"accuracy": "accuracy", "loss": "loss", "novelty": "novelty"}
    names |= {"disagreement": "disagrees", "average": "average of 32", "divergence": "divergence"}
    cell = number(4, std=3, seeds=4)
    zoo = {"set": "trained", "averaged": None}
    return (
        Column("expected", {}, lambda mine: expected(mine[0])),
        *(_samples(t, m, cell) for m, t in names.items()),
        metric("zoo", "accuracy", cell, **zoo),
        metric("zoo, average", "average", cell, **zoo),
        metric("parameters", "parameters", number(0)),
        metric("flow, s", "seconds", number(0), stage="train"),
    )


def expected(record: Record) -> str:
    """What was expected of the row of a record."""
    from configs import mnist as other

    for x in (*(x for study in STUDIES for x in study), *other.ROWS):
        if all(record.get(name) == value for name, value in x.at.items()):
            same = all(x.at.get(name) == record.get(name) for name in NAMES)
            if same:
                return x.expected.replace("|", "&#124;")
    return ""


def _head(page: Page) -> str:
    """The command, the seeds, and the cost."""
    source = page.records[0].source
    assert source
    seconds = sum(x.value * len(x.seeds or (1,)) for x in _of_runs(page.records, "seconds"))
    memory = max(x.value for x in _of_runs(page.records, "peak_mb"))
    return (
        f"`{source.command}`. Seeds {', '.join(map(str, seeds(page.records)))}; "
        f"{source.hardware}; {seconds / 60:.0f} minutes in all; peak memory {memory:.0f} MB."
    )


def _of_runs(found: Sequence[Record], name: str) -> list[Record]:
    every = r.where(found, {"metric": name})
    return r.where(every, {"stage": "total"}) or every


def _best(page: Page) -> str:
    """A sentence that names the row with the best samples on validation data, if there is one."""
    found = r.over_seeds(r.where(page.records, {"set": "samples", "averaged": None}))
    judged = r.where(found, {"metric": "validation_accuracy"})
    if not judged:
        return ""
    best = max(judged, key=lambda x: x.value)
    (test,) = r.where(found, {"metric": "accuracy"} | {n: best.get(n) for n in NAMES})
    return (
        f"Best by validation accuracy ({best.value:.4f}): "
        f"{title(*(best.get(n) for n in NAMES))}, with {test.value:.4f} on test data."
    )


SECTIONS: Block = Each(
    ("study",),
    str.capitalize,
    (Text(_head), Table("row", NAMES, _columns, title=title), Text(_best)),
    {"study": r.known},
)
