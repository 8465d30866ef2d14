"""From N(0, 1) to N(1, 1) on the weights of 30-16-16-2.

Command    python -m experiments run gaussian --workdir=runs/gaussian
Hardware   2 CPU cores
Time       6 minutes
Expected   docs/results/gaussian.md
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.pages import Cost, Picture, Table, metric, number
from experiments.study import Study


def get_study() -> Study:
    """A preset that takes minutes; the thesis trains 20,000 steps with batches of 16."""
    config: Any = ConfigDict()
    config.seed = 0
    config.widths = (30, 16, 16, 2)
    config.sigma = 1e-3
    config.field = ConfigDict({"width": 32, "depth": 3})
    config.training = ConfigDict(
        {"data": 4096, "steps": 1000, "batch_size": 16, "learning_rate": 1e-2, "ema_decay": 0.99}
    )
    config.training.report_every = 50
    config.sampling = ConfigDict({"networks": 200, "steps": 100, "noise": 0.05, "rate": 1.0})
    return Study("gaussian", config, ("gaussian",), page=PAGE)


COLUMNS = {
    "mean": "mean",
    "std": "std (true: 1)",
    "std_of_means": "std of network means (true: 1)",
}
PAGE = (
    Cost(),
    Table(
        "field, sampling",
        ("field", "sampling"),
        tuple(metric(title, name, number(3)) for name, title in COLUMNS.items()),
        {"metric": tuple(COLUMNS)},
    ),
    Picture("Weights and mean weights of samples, beside the truth", "gaussian.png"),
)
