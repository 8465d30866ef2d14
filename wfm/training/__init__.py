"""Training flows: state, steps, checkpoints."""

from typing import TYPE_CHECKING, Any

from wfm.training.learn import flow_trainer, learn
from wfm.training.trainer import Diverged, Trainer, TrainState, adam, muon

if TYPE_CHECKING:
    from wfm.training.checkpoint import Checkpoints

__all__ = [
    "Checkpoints",
    "Diverged",
    "TrainState",
    "Trainer",
    "adam",
    "flow_trainer",
    "learn",
    "muon",
]


def __getattr__(name: str) -> Any:
    if name == "Checkpoints":  # imported on use, because orbax takes half a second
        from wfm.training.checkpoint import Checkpoints

        return Checkpoints
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
