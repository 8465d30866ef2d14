"""How good networks are, and what plain training makes of them for as many gradients."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from experiments.experiment import Experiment
from experiments.uci import Trained
from wfm.evaluation import Nearest, evaluate, probabilities
from wfm.tasks import Split, Task, accuracy
from wfm.weights import Weights, WeightSpec
from wfm.zoo import Schedule, train_zoo

Judge = Callable[[Weights], dict[str, float]]

AVERAGED = 32  # the most networks whose predictions are averaged


def quality(network: WeightSpec, task: Task, weights: Weights) -> dict[str, float]:
    """Means over stacked networks on test and validation data, each with its standard error.

    Also `average` and `validation_average`: the accuracy of the first networks' averaged
    predictions. Settings are chosen by validation figures, and reported by those of the test.
    """
    found = {}
    for name, split in {"": task.test, "validation_": task.validation}.items():
        for metric, values in evaluate(network, weights, split).items():
            found[name + metric] = float(values.mean())
            found[f"{name}{metric}_error"] = _error(values)
        found[name + "average"] = average(network, weights, split)
    return found


def average(network: WeightSpec, weights: Weights, split: Split, n: int = AVERAGED) -> float:
    """The accuracy of the averaged predictions of the first `n` of stacked networks."""
    few = jax.tree.map(lambda a: a[:n], weights)
    return float(accuracy(jnp.log(probabilities(network, few, split.x).mean(0)), split.y))


def _error(values: Array) -> float:
    """The standard error of a mean, from the sample standard deviation."""
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def judge_of(experiment: Experiment, trained: Trained) -> Judge:
    """From networks to their quality on test and validation data, and their novelty."""
    nearest = Nearest(experiment.quotient, trained.reference, trained.seen.weights)
    unit = jnp.median(nearest.distances(trained.held_out.weights))

    def judge(networks: Weights) -> dict[str, float]:
        novelty = float(jnp.median(nearest.distances(networks)) / unit)
        return quality(experiment.network, experiment.task, networks) | {"novelty": novelty}

    return judge


def train_on(
    network: WeightSpec,
    task: Task,
    initial: Weights,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    schedule: Schedule,
    steps: int,
) -> Weights:
    """Networks after `steps` gradient steps, on the batches of a schedule."""
    epochs = -(-steps // schedule.epoch(len(task.train)))
    schedule = dataclasses.replace(schedule, epochs=epochs, burn_in=0, stride=steps, stop=steps)
    return train_zoo(network, task, initial, optimizer, key, schedule).weights
