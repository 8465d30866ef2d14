"""Figures of merit: pure functions of weights and tasks."""

from wfm.evaluation.barriers import aligned_barriers, barriers, mean_over_pairs
from wfm.evaluation.baselines import (
    averaged_pairs,
    crossed_pairs,
    gaussian_networks,
    with_noise,
)
from wfm.evaluation.calibration import calibration
from wfm.evaluation.metrics import (
    ensemble_accuracy,
    evaluate,
    logits,
    predictions,
    probabilities,
)
from wfm.evaluation.novelty import (
    Nearest,
    median_ratio,
    ratio_error,
    smallest_disagreement,
    stack_flat,
)
from wfm.evaluation.predictive import divergences, kernel_divergences, model_averages

__all__ = [
    "Nearest",
    "aligned_barriers",
    "averaged_pairs",
    "barriers",
    "calibration",
    "crossed_pairs",
    "divergences",
    "ensemble_accuracy",
    "evaluate",
    "gaussian_networks",
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
