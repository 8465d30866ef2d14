"""From N(0, 1) to N(1, 1) on the weights of 30-16-16-2: `experiments.gaussian`.

Command    python -m experiments.gaussian --config=configs/gaussian.py --workdir=runs/gaussian
Hardware   2 CPU cores
Time       6 minutes
Expected   docs/results/gaussian.md
"""

from typing import Any

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A preset of minutes; the thesis trains 20,000 steps with batches of 16."""
    config: Any = ConfigDict()
    config.seed = 0
    config.widths = (30, 16, 16, 2)
    config.sigma = 1e-3
    config.field = ConfigDict({"width": 32, "depth": 3})
    config.training = ConfigDict(
        {"data": 4096, "steps": 1000, "batch_size": 16, "learning_rate": 1e-2, "decay": 0.99}
    )
    config.training.report_every = 50
    config.sampling = ConfigDict({"networks": 200, "steps": 100, "noise": 0.05, "rate": 1.0})
    return config
