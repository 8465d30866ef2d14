"""What an accelerator gives: laws in each precision, rates, and the thesis's settings; by minutes.

Command    python -m experiments run accelerator --workdir=runs/accelerator --config.minutes=8
Hardware   one GPU or TPU, also without a network; `accelerator:small` checks the command on a CPU
Time       as many minutes as are given; the same command with more goes on with what is missing
Expected   a page in docs/results/ once it is published from a device
"""

from collections.abc import Sequence
from typing import Any

from configs.base import mnist
from configs.bench import ours, rival
from configs.published import BREAST_CANCER, FORM, MNIST, SAMPLING, SIGMA
from experiments import records as r
from experiments.pages import Block, Column, Table, Text, each_value, metric, number
from experiments.records import Record
from experiments.study import Row, Study

VARIANTS = ("small",)
MLP = {"widths": [30, 16, 16, 2], "depth": 5}
WIDE = {"widths": [784, 10, 10], "width": 32, "depth": 5}
TASK = {"task": "breast_cancer", "hidden": [16, 16]}
# The thesis's settings, but with a batch and samples at once, as fills a device.
AT_ONCE = {"microbatch": 32}
DRAWN = SAMPLING | {"networks": 100, "chunk": 100}
TINY: dict[str, Any] = {
    "zoo": {"networks": 8, "at_once": 8, "epochs": 4, "burn_in": 1, "stride": 2},
    "field": {"width": 8, "depth": 1},
    "training": {"steps": 100, "microbatch": 8},
}


def get_study(variant: str = "") -> Study:
    """Laws, benchmarks and presets, each until its share of the minutes is over."""
    base = mnist()
    base.sampling.update(DRAWN | ({"networks": 8, "steps": 4} if variant else {}))
    base.minutes = 8.0  # from the start of the process
    base.until = 1.0  # a share of the minutes; rows have theirs
    cases = _tiny_cases() if variant else _cases()
    base.cases, base.order = cases, tuple(cases)  # the first ones matter most
    rows = (
        Row({"part": "laws"}, {"until": 0.3}, measures=("laws",)),
        Row({"part": "rates"}, {"until": 0.65}, measures=("bench",)),
        _preset("breast_cancer", BREAST_CANCER, variant),
        _preset("mnist", MNIST, variant, dear=True),  # needs its files
    )
    return Study("accelerator", base, (), rows, page=PAGE)


def _preset(task: str, change: dict[str, Any], variant: str, dear: bool = False) -> Row:
    change = change | {"flow": {"kind": "geometric", "sigma": SIGMA[task]} | FORM}
    change["training"] = change["training"] | AT_ONCE
    if variant:
        change |= {part: change[part] | smaller for part, smaller in TINY.items()}
        change["network"] = "mlp:4"
    at = {"part": "preset", "task": task, "split": change.get("split", 0)}
    return Row(at, change, measures=("preset",), dear=dear)


def _cases() -> dict[str, Any]:
    batch = {"batch": 32, "microbatch": 32, "steps": 20}
    half = {"dtype": "bfloat16"}
    draw = {"networks": 10_000, "steps": 64, "at_once": 1000}
    return {
        "device": ours("device"),
        "step, d = 64": ours("training", **MLP, width=64, **batch),
        "step, d = 64, bfloat16": ours("training", **MLP, width=64, **batch, **half),
        "step, d = 64, folded": ours("training", **MLP, width=64, **batch, fold=True),
        "step, d = 64, all pairs, PyTorch": rival(
            "training", **MLP, width=64, batch=32, compiled=False, threads=8
        ),
        "step, d = 256, bfloat16": ours("training", **MLP, width=256, **batch, **half),
        "10,000 networks in 64 steps, folded": ours("sampling", **MLP, width=64, **draw, fold=True),
        "step, 784-10-10": ours("training", **WIDE, batch=8, microbatch=8, steps=20),
        "step, 784-10-10, folded": ours(
            "training", **WIDE, batch=8, microbatch=8, steps=20, fold=True
        ),
        "zoo of 1,000, 50 epochs": ours("zoo", **TASK, networks=1000, epochs=50, batch_size=32),
        "alignment of 4,000": ours("alignment", name="weights", networks=4000, **TASK),
        "1,000 log-densities in 64 steps, folded": ours(
            "densities", **MLP, width=64, fold=True, networks=1000, steps=64, at_once=1000
        ),
        "10,000 networks in 64 steps": ours("sampling", **MLP, width=64, **draw),
    }


def _tiny_cases() -> dict[str, Any]:
    """A case of each kind, in seconds."""
    field = {"widths": [4, 3, 3], "width": 4, "depth": 1}
    task = {"task": "iris", "hidden": [3]}
    return {
        "device": ours("device"),
        "step": ours("training", **field, batch=4, microbatch=2, dtype="bfloat16"),
        "samples": ours("sampling", **field, networks=4, steps=2, at_once=2, fold=True),
        "zoo": ours("zoo", **task, networks=2, epochs=1, batch_size=32),
        "alignment": ours("alignment", name="weights", networks=4, **task),
        "densities": ours("densities", **field, networks=2, steps=2, at_once=2),
        "step, PyTorch": rival("training", **field, batch=4, compiled=False, threads=1),
    }


def _error(found: Sequence[Record]) -> str:
    """The error of a law; bold where it is larger than rounding explains, or no number."""
    at = {x.metric: x.value for x in found}
    if not at:
        return ""
    text = f"{at['error']:.1e}"
    return text if at["error"] <= at["largest"] else f"**{text}**"


def _summary(page: Any) -> str:
    errors = r.where(page.records, {"metric": "error"})
    largest = {(x.at["law"], x.at["precision"]): x for x in r.where(page.records, LARGEST)}
    bad = [x for x in errors if not x.value <= largest[x.at["law"], x.at["precision"]].value]
    return (
        f"`{page.records[0].source.command}`; {page.records[0].source.hardware}. laws "
        f"checked: {len(errors)}, broken: {len(bad)} (bold: the largest error of 16 draws is above "
        "what rounding products to that precision explains)."
    )


LARGEST = {"metric": "largest"}


def _teraflops(found: Sequence[Record]) -> str:
    at = {x.metric: x.value for x in found}
    if "product_flops" not in at:
        return ""
    rate = at["product_flops"] / at["seconds median"]
    return f"{rate / 1e12:.3g} ({rate / at['matmul_rate']:.0%})"


def _tera(found: Sequence[Record]) -> str:
    return f"{found[0].value / 1e12:.3g}" if found else ""


def _failed(found: Sequence[Record]) -> str:
    return f"exit status {found[0].value:.0f}" if found else ""


_SECONDS = number(4)
PAGE: tuple[Block, ...] = (
    Text(_summary),
    Table("law", ("law",), each_value("precision", _error), {"law": r.known}),
    Table(
        "products of large matrices",
        ("case",),
        tuple(
            metric(f"{name}, TFLOP/s", f"rate {name}", _tera)
            for name in ("float32", "tensorfloat32", "bfloat16")
        ),
        {"case": "device"},
    ),
    Table(
        "work",
        ("case",),
        (
            metric("seconds", "seconds median", _SECONDS),
            metric("least", "seconds least", _SECONDS),
            metric("most", "seconds most", _SECONDS),
            metric("first call", "seconds first", number(1)),
            Column("TFLOP/s of its products (share of a large product)", {}, _teraflops),
            metric("not done", "failed", _failed),
        ),
        {"case": lambda case: case not in (None, "device")},
    ),
    Table(
        "preset",
        ("task",),
        (
            metric("seconds a step", "step_seconds", number(5)),
            metric("hours for all steps", "hours", number(2)),
            metric("steps done", "steps", number(0)),
            metric("accuracy", "accuracy", number(4)),
            metric("loss", "loss", number(4)),
            metric("novelty", "novelty", number(3)),
            metric("zoo's accuracy", "zoo_accuracy", number(4)),
            metric("zoo's loss", "zoo_loss", number(4)),
        ),
        {"part": "preset", "metric": lambda name: name not in ("seconds", "peak_mb")},
    ),
)
