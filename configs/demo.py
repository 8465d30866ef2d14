"""New networks for a small data set: breast cancer, MLP 30-16-16-2.

`settings` repeats it with other seeds, splits and numbers of steps, for docs/results/demo.md.

Command    python -m experiments run demo --workdir=runs/demo
Hardware   2 CPU cores, 2.8 GB
Time       4 minutes the first time, compilation included
Expected   geometric: samples 0.980 ± 0.007 accuracy, 0.068 ± 0.010 loss, novelty 0.96;
           zoo 0.978 ± 0.007, 0.069 ± 0.016 (docs/results/demo.md)
"""

from configs.base import small
from configs.words import NETWORKS
from experiments.pages import Block, Column, Cost, Picture, Table, Text, metric, number
from experiments.study import Row, Study

VARIANTS = ("geometric", "euclidean", "normalized", "settings")
MEASURES = ("quality", "novelty", "overview", "loss_curve")
SETTINGS = (
    Row({"differs in": "(nothing)"}),
    *(Row({"differs in": f"seed {seed}"}, seeds=(seed,)) for seed in (1, 2)),
    *(Row({"differs in": f"split {s}", "split": s}, {"split": s}) for s in (0, 2, 3)),
    Row({"differs in": "sampling.steps 64"}, {"sampling": {"steps": 64}}),
)
EXPLANATION = (
    "*Novelty*: median distance to the nearest network that the flow was trained on, up to "
    "permutation and rescaling, over that of held-out trajectories, ± its standard error. "
    "*Disagrees*: mean share of test inputs classified otherwise than by the training network "
    "that agrees most. Other ± are standard deviations over networks."
)


def get_study(variant: str = "geometric") -> Study:
    """One run of one flow, or runs of the Geometric flow with other settings."""
    base = small("geometric" if variant == "settings" else variant)
    base.training.steps = 500  # six times as many lower the loss by 0.001
    if variant == "settings":
        first = {"differs in": "(nothing)"}
        page = (Cost(first), compared(first), picture(first), Text(OTHERS), COMPARISON)
        return Study("demo", base, MEASURES, SETTINGS, page=page)
    page = (Cost(), compared({}), Text(EXPLANATION), picture({}))
    return Study("demo", base, MEASURES, page=page)


def compared(where: dict) -> Table:
    """Samples compared with the zoo and with trivial ways to make new networks."""
    columns = (
        metric("accuracy", "accuracy", number(3, std=3)),
        metric("loss", "loss", number(3, std=3)),
        metric("novelty", "novelty", number(3, error=3)),
        metric("disagrees", "disagreement", number(3)),
    )
    where = {"set": tuple(NETWORKS)} | where
    return Table("networks", ("set",), columns, where, title=NETWORKS.__getitem__)


def picture(at: dict) -> Picture:
    """The overview of one run."""
    return Picture("Accuracy, loss and a map of zoo and samples", "overview.png", at=at)


OTHERS = """## Other settings

`python -m experiments run demo:settings --workdir=runs/settings`, one run each.
Zoo: all snapshots that the flow learns from."""


def _column(title: str, name: str, of: str) -> Column:
    return metric(title, name, number(4, std=3), set=of)


COMPARISON: Block = Table(
    "differs in",
    ("differs in",),
    (
        _column("zoo: accuracy", "accuracy", "zoo"),
        _column("samples", "accuracy", "samples"),
        _column("zoo: loss", "loss", "zoo"),
        _column("samples", "loss", "samples"),
        metric("novelty", "novelty", number(3, error=3), set="samples"),
    ),
)
