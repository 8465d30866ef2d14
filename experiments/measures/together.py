"""What networks predict together: averages, calibration, diversity, and mean weights."""

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array

from experiments.measures.base import Point
from experiments.measures.quality import average, sets_of
from experiments.records import Figures
from experiments.stages import Run, encode_all
from wfm.batching import first_rows
from wfm.errors import UserError
from wfm.evaluation import (
    calibration,
    divergences,
    evaluate,
    kernel_divergences,
    mean_over_pairs,
    model_averages,
    probabilities,
)
from wfm.weights import Weights, align_all
from wfm.zoo import count_held_out

SETS = ("trained", "samples")


def check(run: Run) -> None:
    """Refuse a run with fewer networks than are to be averaged."""
    c = run.config
    most, seen = max(c.averages), c.zoo.networks - count_held_out(c.zoo.networks, c.zoo.held_out)
    if most > min(c.sampling.networks, seen) or min(c.averages) < 1:
        raise UserError(
            f"config.averages asks for {min(c.averages)} to {most} networks, of "
            f"{c.sampling.networks} samples and {seen} trained ones; choose numbers from 1 on, or "
            "raise sampling.networks and zoo.networks"
        )


def points(run: Run) -> Iterator[Point]:
    """Figures of samples and of equally many trained networks (a deep ensemble)."""
    for name in SETS:
        for n in run.config.averages:
            yield Point({"set": name, "averaged": n}, partial(_average, run, name, n))
        yield Point({"set": name}, partial(_diversity, run, name))


def _average(run: Run, name: str, n: int, folder: Path) -> Figures:
    """Calibration of averages of `n` on test data, and accuracy of one on validation data."""
    p, test = _probabilities(run, name), run.parts.task.test
    if n == 1:  # the mean over single networks
        found = jax.vmap(partial(calibration, labels=test.y))(p)
    else:
        found = calibration(_averages(run, name)[n - 1], test.y)
    return _means(found) | {"validation_accuracy": _on_validation(run, name, n)}


def average_accuracy(run: Run, name: str, n: int) -> float:
    """The test accuracy of the averaged predictions of the first `n` networks."""
    test = run.parts.task.test
    return float(calibration(_averages(run, name)[n - 1], test.y)["accuracy"])


def _on_validation(run: Run, name: str, n: int) -> float:
    network, split, weights = run.parts.network, run.parts.task.validation, sets_of(run).of(name)
    if n == 1:
        return float(evaluate(network, weights, split)["accuracy"].mean())
    return average(network, weights, split, n)


def _diversity(run: Run, name: str, folder: Path) -> Figures:
    """Diversity; `average` is over the most networks that the config averages."""
    p, n, test = _probabilities(run, name), max(run.config.averages), run.parts.task.test
    return {
        "average": average_accuracy(run, name, n),
        "validation_average": _on_validation(run, name, n),
        "divergence": mean_over_pairs(divergences(p))["mean"],
        "kernel_divergence": mean_over_pairs(kernel_divergences(p))["mean"],
        "mean_weights": _means(evaluate(run.parts.network, _mean_weights(run, name), test))[
            "accuracy"
        ],
    }


@lru_cache(maxsize=2)
def _probabilities(run: Run, name: str) -> Array:
    return probabilities(run.parts.network, _few(run, name), run.parts.task.test.x)


@lru_cache(maxsize=2)
def _averages(run: Run, name: str) -> Array:
    return model_averages(_probabilities(run, name))


def _few(run: Run, name: str) -> Weights:
    return first_rows(sets_of(run).of(name), max(run.config.averages))


def _mean_weights(run: Run, name: str) -> Weights:
    """One network, stacked: the mean of aligned canonical forms, projected to their manifold."""
    form = run.parts.quotient
    mean = jax.tree.map(lambda a: a.mean(0), aligned(run, _few(run, name)))
    network = form.decode(form.manifold().project(mean))
    return jax.tree.map(lambda a: a[None], network)


def aligned(run: Run, weights: Weights) -> Weights:
    """Canonical forms of stacked networks, aligned to the reference."""
    form = run.parts.quotient
    return align_all(form.spec, run.reference, encode_all(form, weights))[0]


def _means(metrics: Mapping[str, Array]) -> dict[str, float]:
    return {name: float(jnp.mean(values)) for name, values in metrics.items()}
