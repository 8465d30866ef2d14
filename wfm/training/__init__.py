"""Training flows: state, steps, checkpoints, logs."""

from wfm.training.checkpoint import Checkpoints
from wfm.training.learn import flow_trainer, learn
from wfm.training.log import MetricsLog, progress_bar
from wfm.training.signals import Stopped, StopSignals
from wfm.training.trainer import Diverged, Trainer, TrainState, adam, muon

__all__ = [
    "Checkpoints",
    "Diverged",
    "MetricsLog",
    "StopSignals",
    "Stopped",
    "TrainState",
    "Trainer",
    "adam",
    "flow_trainer",
    "learn",
    "muon",
    "progress_bar",
]
