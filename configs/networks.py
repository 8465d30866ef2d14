"""Flows over convolutional, residual and attention networks, beside a Gaussian fitted to each zoo.

Command    python -m experiments run networks --workdir=runs/networks --store=runs/store
Hardware   2 CPU cores
Time       hours; ViT took 24 minutes with one of the three flows, beside other work
Expected   docs/results/networks.md
"""

from collections.abc import Iterator, Sequence
from typing import Any

from configs.base import mnist
from configs.uci import KINDS
from configs.words import NETWORKS
from experiments.pages import Cost, Each, Table, metric, number
from experiments.records import Record, over_seeds
from experiments.study import Row, Study

MEASURES = ("quality", "novelty", "barriers_of_sets")
ADAM = {"initial": "he", "optimizer": "adam", "learning_rate": 3e-3, "rate": "cosine"}
# One network at a time: on a CPU, convolutions of several at once are slower.
IMAGES = {"networks": 60, "at_once": 1, "same_batches": False, "batch_size": 128}
PROBLEMS: dict[tuple[str, str], dict[str, Any]] = {
    ("ViT", "digits"): {
        "network": "vit:patch=4,width=16,heads=2,blocks=2,hidden=32",
        "zoo": {"networks": 200, "batch_size": 32, "epochs": 60, "burn_in": 59, "stride": 30},
    },
    ("Small CNN", "mnist"): {"network": "small_cnn", "zoo": IMAGES | {"epochs": 3, "burn_in": 2}},
    ("ResNet-8", "fashion_mnist_8x8"): {
        "network": "resnet:depth=8,width=4,batch_norm=False",
        "zoo": IMAGES | {"epochs": 3, "burn_in": 2},
    },
    ("LeNet-5", "mnist"): {"network": "lenet5", "zoo": IMAGES | {"epochs": 1, "burn_in": 0}},
}


def get_study() -> Study:
    """Every flow over every network."""
    base = mnist()
    base.zoo.update(ADAM)
    base.field.update({"kind": "transformer", "width": 32})
    base.training.steps = 1000
    base.sampling.networks = 32
    rows = tuple(row for at, change in PROBLEMS.items() for row in _rows(*at, change))
    page = (Each(("network", "task"), "## {}, {}".format, (Cost({"flow": KINDS[-1]}), TABLE)),)
    return Study("networks", base, MEASURES, rows, page=page)


def _rows(network: str, task: str, change: dict[str, Any]) -> Iterator[Row]:
    for kind in KINDS:
        at = {"network": network, "task": task, "flow": kind}
        yield Row(at, change | {"task": task, "flow": {"kind": kind.lower()}})


def _each_once(found: Sequence[Record]) -> Sequence[Record]:
    """Samples of all flows, and what all of them share once."""
    mine = [x for x in found if x.get("set") == "samples" or x.get("flow") == KINDS[-1]]
    order = list(NETWORKS)
    return sorted(over_seeds(mine), key=lambda x: order.index(x.at["set"]))


def _title(of: str, flow: str) -> str:
    return f"samples, {flow}" if of == "samples" else NETWORKS[of]


TABLE = Table(
    "networks",
    ("set", "flow"),
    (
        metric("accuracy", "accuracy", number(3, std=3)),
        metric("loss", "loss", number(3, std=3)),
        metric("average of 32", "ensemble", number(3)),
        metric("novelty", "novelty", number(3, error=3)),
        metric("disagrees", "disagreement", number(3)),
        metric("barrier", "barrier", number(2, error=2)),
        metric("aligned", "aligned_barrier", number(2, error=2)),
    ),
    {"set": tuple(NETWORKS)},
    _title,
    _each_once,
)
