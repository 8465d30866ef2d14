"""Figures of merit: pure functions of weights and tasks."""

from wfm.evaluation.barriers import barriers, mean_over_pairs
from wfm.evaluation.calibration import calibration
from wfm.evaluation.metrics import evaluate, logits, predictions, probabilities
from wfm.evaluation.novelty import (
    Nearest,
    averaged_pairs,
    crossed_pairs,
    median_ratio,
    ratio_error,
    smallest_disagreement,
    stack_flat,
    with_noise,
)
from wfm.evaluation.predictive import divergences, kernel_divergences, model_averages

__all__ = [
    "Nearest",
    "averaged_pairs",
    "barriers",
    "calibration",
    "crossed_pairs",
    "divergences",
    "evaluate",
    "kernel_divergences",
    "logits",
    "mean_over_pairs",
    "median_ratio",
    "model_averages",
    "predictions",
    "probabilities",
    "ratio_error",
    "smallest_disagreement",
    "stack_flat",
    "with_noise",
]
