"""Accuracy and loss of samples, compared with training networks and trivial baselines."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from experiments.measures.base import Point
from experiments.records import Figure, Figures
from experiments.stages import Run
from wfm.batching import first_rows
from wfm.evaluation import (
    Nearest,
    averaged_pairs,
    crossed_pairs,
    ensemble_accuracy,
    evaluate,
    gaussian_networks,
    with_noise,
)
from wfm.tasks import Split, Task
from wfm.weights import Weights, WeightSpec
from wfm.zoo import Schedule, train_zoo

AVERAGED = 32  # the largest number of networks averaged
SETS = ("zoo", "trained", "held out", "samples", "gaussian", "noise", "averages", "crossed")


class Sets:
    """The sets of networks of a run and their comparison; each set is made once."""

    def __init__(self, run: Run):
        self.run = run
        key = run.parts.keys["novelty"]
        noise, self._pairs = jax.random.split(key)
        drawn = jax.random.fold_in(key, 3)
        form = run.parts.quotient
        self.make = {
            "zoo": lambda: run.seen.weights,
            "trained": lambda: run.seen.last().weights,
            "held out": lambda: run.held_out.weights,
            "samples": lambda: run.samples,
            "gaussian": lambda: gaussian_networks(
                form, run.reference, run.seen.weights, drawn, run.config.sampling.networks
            ),
            "noise": lambda: with_noise(self._few, noise),
            "averages": lambda: averaged_pairs(form, self._few, self._pairs),
            "crossed": lambda: crossed_pairs(form, self._few, self._pairs),
        }
        self.of = lru_cache(maxsize=None)(lambda name: self.make[name]())
        self.metrics = lru_cache(maxsize=None)(self._metrics)
        self.distances = lru_cache(maxsize=None)(lambda name: self.nearest.distances(self.of(name)))

    @cached_property
    def _few(self) -> Weights:
        """As many trained networks as there are samples; the baselines are made from them."""
        return first_rows(self.run.seen.last().weights, self.run.config.sampling.networks)

    def _metrics(self, name: str) -> dict[str, Array]:
        return evaluate(self.run.parts.network, self.of(name), self.run.parts.task.test)

    @cached_property
    def nearest(self) -> Nearest:
        """Distances to the networks that the flow learned from."""
        run = self.run
        return Nearest(run.parts.quotient, run.reference, run.seen.weights)

    @cached_property
    def unit(self) -> Array:
        """The median distance of held-out networks."""
        return jnp.median(self.distances("held out"))


sets_of = lru_cache(maxsize=1)(Sets)  # shared by all measures of a run


def points(run: Run) -> Iterator[Point]:
    """Quality of each set of networks, on test and validation data.

    `ensemble`: the test accuracy of the average prediction of the first networks.
    """

    def of(name: str, folder: Path) -> Figures:
        validation = evaluate(run.parts.network, sets_of(run).of(name), run.parts.task.validation)
        found = sets_of(run).metrics(name) | {f"validation_{m}": v for m, v in validation.items()}
        network, test = run.parts.network, run.parts.task.test
        together = average(network, sets_of(run).of(name), test)
        return {m: _figure(v) for m, v in found.items()} | {"ensemble": together}

    for name in SETS:
        yield Point({"set": name}, partial(of, name))


def _figure(values: Array) -> Figure:
    read = np.asarray(values)
    return Figure(float(read.mean()), std=float(read.std()))


def size(run: Run) -> Iterator[Point]:
    """The number of parameters of the field."""

    def count(folder: Path) -> Figures:
        return {"parameters": sum(a.size for a in jax.tree.leaves(run.trained.flow.field))}

    yield Point({}, count)


def judge(run: Run, networks: Weights) -> dict[str, Figure]:
    """Quality on test and validation data, and novelty."""
    novelty = float(jnp.median(sets_of(run).nearest.distances(networks)) / sets_of(run).unit)
    return quality(run.parts.network, run.parts.task, networks) | {"novelty": Figure(novelty)}


def quality(network: WeightSpec, task: Task, weights: Weights) -> dict[str, Figure]:
    """Means over stacked networks on test and validation data, with standard errors.

    Also `average` and `validation_average`: the accuracy of the first networks' averaged
    predictions. Settings are chosen by validation figures; reported figures are from test data.
    """
    found = {}
    for name, split in {"": task.test, "validation_": task.validation}.items():
        for metric, values in evaluate(network, weights, split).items():
            found[name + metric] = Figure(float(values.mean()), error=_error(values))
        found[name + "average"] = Figure(average(network, weights, split))
    return found


def average(network: WeightSpec, weights: Weights, split: Split, n: int = AVERAGED) -> float:
    """The accuracy of the averaged predictions of the first `n` stacked networks."""
    return ensemble_accuracy(network, first_rows(weights, n), split)


def _error(values: Array) -> float:
    """The standard error of a mean, from the sample standard deviation."""
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def train_on(
    network: WeightSpec,
    task: Task,
    initial: Weights,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    schedule: Schedule,
    steps: int,
) -> Weights:
    """Networks after `steps` gradient steps on the batches of a schedule."""
    epochs = -(-steps // schedule.epoch(len(task.train)))
    schedule = dataclasses.replace(schedule, epochs=epochs, burn_in=0, stride=steps, stop=steps)
    return train_zoo(network, task, initial, optimizer, key, schedule).weights
