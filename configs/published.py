"""All settings of the thesis, for an accelerator: breast cancer (section 5.2) and MNIST (appendix).

Command    python -m experiments run published --workdir=runs/published --only=task=mnist
Hardware   a GPU; not run yet
Time       as published: 6 to 40 hours for each flow on MNIST, on an A100 or H100
Expected   the published figures (experiments/published.py)
"""

from collections.abc import Iterator
from typing import Any

from configs.base import mnist
from configs.uci import KINDS, QUALITY
from experiments import records as r
from experiments.pages import Cost, Table, each_value
from experiments.study import Row, Study

FORM = {"last_layer": "sphere", "prediction": "end_point"}
FIELD = {"kind": "transformer", "fold": False, "depth": 5, "own_embedding": "none"}
TRAINING = {"optimizer": "adam", "learning_rate": 1e-3, "report_every": 500}
SAMPLING = {"solver": "euler", "steps": 64, "networks": 42}
BREAST_CANCER: dict[str, Any] = {
    "task": "breast_cancer",
    "split": 1,
    "network": "mlp:16,16",
    "zoo": {
        "networks": 100,
        "at_once": 100,
        "same_batches": False,
        "prior_std": 0.1,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "rate": "constant",
        "epochs": 50,
        "batch_size": 32,
        "burn_in": 10,
        "stride": 4,
    },
    "field": FIELD | {"width": 64},
    "training": TRAINING | {"steps": 250_000, "batch_size": 32},
}
MNIST: dict[str, Any] = {
    "zoo": {
        "networks": 50,
        "prior_std": 0.1,
        "learning_rate": 0.1,
        "rate": "constant",
        "weight_decay": 1e-5,
        "epochs": 25,
        "burn_in": 5,
        "stride": 10,
    },
    "field": FIELD | {"width": 32},
    "training": TRAINING | {"steps": 100_000, "batch_size": 8},
}
SIGMA = {"breast_cancer": 1e-4, "mnist": 1e-5}
WEIGHTS = {
    "breast_cancer": {
        "as trained": {"align": "none"},
        "aligned": {},
        "aligned + OT": {"coupling": "ot"},
    },
    "mnist": {"aligned": {}, "aligned + OT": {"coupling": "ot"}},
}


def get_study() -> Study:
    """Every flow of the thesis."""
    base = mnist()
    base.sampling.update(SAMPLING)
    rows = (*_rows("breast_cancer", BREAST_CANCER), *_rows("mnist", MNIST))
    table = Table("flow", ("task", "flow"), each_value("weights", QUALITY), {"set": "samples"})
    page = (Cost({"flow": r.known}), table)
    return Study("published", base, ("quality", "novelty", "together"), rows, page=page)


def _rows(task: str, change: dict[str, Any]) -> Iterator[Row]:
    for kind in KINDS:
        for weights, other in WEIGHTS[task].items():
            flow = {"kind": kind.lower(), "sigma": SIGMA[task]} | FORM | other
            at = {"task": task, "flow": kind, "weights": weights}
            yield Row(at | ({"split": 1} if "split" in change else {}), change | {"flow": flow})
