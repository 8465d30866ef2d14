"""Where on the path new MNIST networks lose their quality.

Command    python -m experiments run path_errors --workdir=runs/path_errors
Hardware   2 CPU cores
Time       docs/results/mnist-path.md
Expected   docs/results/mnist-path.md
"""

from typing import Any

from configs.base import mnist
from experiments.curves import Curves
from experiments.pages import Column, Cost, Each, Table, joined, number
from experiments.study import Row, Study

SETS = ("seen", "unseen")
METRICS = ("accuracy", "loss", "average", "novelty", "flow_loss")


def get_study() -> Study:
    """A flow of `configs/base.py`, with the learning rate of its studies."""
    config: Any = mnist()
    config.training.learning_rate = 5e-3
    config.times = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    row = Row({"flow": "geometric"})
    return Study("mnist-path", config, ("path_errors",), (row,), page=PAGE)


BOTH = joined("set", {name: number(4) for name in SETS})
PAGE = (
    Curves(
        "Quality and loss of the flow against the time set back to",
        x="t",
        lines="set",
        panels=("metric",),
        where={"metric": ("accuracy", "loss", "flow_loss")},
        level={"set": "unseen", "t": "as trained"},
        shown={"seen": "C0-", "unseen": "C1--"},
    ),
    Each(
        ("flow", "seed"),
        lambda flow, seed: f"## {flow.capitalize()}, seed {seed}",
        (
            Cost(),
            Table(
                "t",
                ("t",),
                tuple(Column(name, {"metric": name}, BOTH) for name in METRICS),
                {"set": SETS},
                title=lambda t: t if isinstance(t, str) else f"{t:g}",
            ),
        ),
        {"flow": "geometric"},
    ),
)
