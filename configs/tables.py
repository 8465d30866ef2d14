"""The flows of the thesis's breast-cancer table, on three data sets: `experiments.tables`.

Command    python -m experiments.tables --config=configs/tables.py:wine --workdir=runs/tables/wine
Variants   breast_cancer, digits, wine; published: breast cancer with the thesis's settings
Hardware   2 CPU cores, 3.3 GB; published: a GPU
Time       31 minutes breast_cancer, 22 digits, 16 wine; published: see docs/results/uci.md
Expected   docs/results/uci.md
"""

from typing import Any

from ml_collections import ConfigDict

from configs import uci

HIDDEN = {"breast_cancer": (16, 16), "digits": (16,), "wine": (16,)}


def get_config(variant: str = "breast_cancer") -> ConfigDict:
    """Every row trains the flow of `base` with the row's changes, once for each seed."""
    published = variant == "published"
    config: Any = ConfigDict()
    config.seeds = (0, 1, 2)
    base: Any = uci.get_config("geometric")
    config.base = base
    base.task = "breast_cancer" if published else variant
    base.hidden = HIDDEN.get(base.task, (16,))
    base.training.steps = 500
    base.sampling.steps = 64
    if base.task == "wine":  # has few examples, so an epoch is three steps
        base.zoo.update({"epochs": 300, "burn_in": 60})
    if published:
        _as_published(base)
    rows: Any = {
        f"{kind}_{column}": {"flow": {"kind": kind} | flow, "field": field}
        for kind in ("euclidean", "normalized", "geometric")
        for column, (flow, field) in _columns(published).items()
    }
    if not published:
        # What most other systems use: a plain network of the aligned, flattened weights.
        flat = {"flow": {"kind": "euclidean"}, "field": {"kind": "mlp", "width": 256}}
        rows |= {"flat_mlp_aligned": flat}
    config.rows = rows
    config.barriers = ConfigDict()
    config.barriers.networks = 250
    return config


def _columns(published: bool) -> dict[str, tuple[dict, dict]]:
    """Changes of flow and field. Only aligned neurons have a place of their own to be told by."""
    anonymous = {"own_embedding": "none" if published else "fixed"}
    known = anonymous if published else {"own_embedding": "all"}
    return {
        "as_trained": ({"align": "none"}, anonymous),
        "aligned": ({"align": "weights"}, known),
        "aligned_ot": ({"align": "weights", "coupling": "ot"}, known),
    }


def _as_published(config: Any) -> None:
    """Settings of the thesis, section 5.2, as far as it names them."""
    config.zoo.stride = 4
    config.flow.last_layer = "sphere"
    config.flow.prediction = "end_point"
    config.field.update({"fold": False, "width": 64, "depth": 5})
    config.training.update({"optimizer": "adam", "learning_rate": 1e-3, "steps": 250_000})
    config.training.report_every = 500
