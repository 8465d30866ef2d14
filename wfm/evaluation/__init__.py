"""Figures of merit: pure functions of weights and tasks."""

from wfm.evaluation.barriers import barriers, mean_barrier
from wfm.evaluation.metrics import evaluate, predictions
from wfm.evaluation.novelty import (
    Nearest,
    averaged_pairs,
    median_ratio,
    smallest_disagreement,
    stack_flat,
    with_noise,
)

__all__ = [
    "Nearest",
    "averaged_pairs",
    "barriers",
    "evaluate",
    "mean_barrier",
    "median_ratio",
    "predictions",
    "smallest_disagreement",
    "stack_flat",
    "with_noise",
]
