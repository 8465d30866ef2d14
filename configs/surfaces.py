"""A mixture learned on the sphere, the torus or the hyperbolic plane.

Command    python -m experiments run surfaces --workdir=runs/surfaces --only=manifold=torus
Hardware   2 CPU cores
Time       about 10 seconds each, compilation included
Expected   total variation from the data: sphere 0.03, torus 0.07, hyperboloid 0.04 (uniform: 0.72,
           0.78, 0.81); for the hyperboloid also disk.png, with the learned density
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.pages import Cost, Table, each_value, number
from experiments.study import Row, Study


def get_study() -> Study:
    """A preset that takes seconds on two CPU cores."""
    config: Any = ConfigDict()
    config.seed = 0
    config.manifold = "sphere"
    config.width = 64
    config.depth = 3

    config.data = ConfigDict()
    config.data.points = 20_000
    config.data.spread = 0.3  # standard deviation of each component, as a geodesic distance

    config.training = ConfigDict()
    config.training.steps = 3000
    config.training.batch_size = 256
    config.training.learning_rate = 3e-3
    config.training.ema_decay = 0.99
    config.training.report_every = 500

    config.sampling = ConfigDict()
    config.sampling.points = 20_000
    config.sampling.steps = 64
    rows = tuple(Row({"manifold": m}, {"manifold": m}) for m in ("sphere", "torus", "hyperboloid"))
    return Study("surfaces", config, ("surface",), rows, page=PAGE)


PAGE = (
    Cost(),
    Table(
        "total variation from the data",
        ("manifold",),
        each_value("points", number(3)),
        {"metric": "total_variation"},
    ),
)
