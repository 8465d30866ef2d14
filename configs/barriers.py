"""Loss barriers between the networks of one zoo, before and after alignment in every way.

Command    python -m experiments run barriers --workdir=runs/barriers --config.zoo.networks=250
Hardware   2 CPU cores
Time       minutes
Expected   docs/results/uci.md
"""

from configs.base import small
from configs.uci import BARRIERS, barrier_table
from experiments.pages import Cost, Picture
from experiments.study import Study


def get_study() -> Study:
    """The zoo of the demo."""
    page = (Cost(), barrier_table(), Picture("Barriers of all pairs", "barriers.png"))
    return Study("barriers", small(), BARRIERS, page=page)
