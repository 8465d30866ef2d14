"""New networks for MNIST, alone and averaged: accuracy, calibration, diversity, novelty.

python -m experiments.mnist --config=configs/mnist.py:geometric --workdir=runs/mnist

All that `experiments.uci` does, and what its networks predict together, beside as many trained ones
(a deep ensemble). The same command resumes. All figures are of test data, but for those named
`validation`, by which settings are to be chosen.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes

from experiments import report
from experiments.command import Config, UsageError, main
from experiments.experiment import Experiment, encode_all
from experiments.judge import average
from experiments.uci import evaluate_samples, prepare, sample
from experiments.workdir import Workdir
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

SHOWN = 4  # networks of each set whose filters are drawn


def run(config: Config, path: str) -> None:
    """The whole experiment."""
    experiment = check(config)
    workdir = Workdir(path, config)
    results = workdir.results("report.html")
    if results is None:
        results = _run(experiment, workdir)
    print(report.table(results))
    print(table(results["together"]))
    print(f"Report: {workdir / 'report.html'}")


def check(config: Config) -> Experiment:
    """The experiment, or an error where there are fewer networks than are to be averaged."""
    experiment = Experiment(config)
    most = max(config.averages)
    seen = config.zoo.networks - count_held_out(config.zoo.networks, config.zoo.held_out)
    if most > min(config.sampling.networks, seen) or min(config.averages) < 1:
        raise UsageError(
            f"config.averages asks for {min(config.averages)} to {most} networks, of "
            f"{config.sampling.networks} samples and {seen} trained ones; choose numbers from 1 "
            "on, or raise sampling.networks and zoo.networks"
        )
    return experiment


def _run(experiment: Experiment, workdir: Workdir) -> dict[str, Any]:
    trained = prepare(experiment, workdir)
    samples = sample(experiment, workdir, trained)
    sets = {"trained": trained.seen.last().weights, "samples": samples}
    with workdir.stage("evaluate"):
        results, figures = evaluate_samples(experiment, trained, samples)
        together = {name: _together(experiment, trained.reference, w) for name, w in sets.items()}
    about = {"seed": experiment.config.seed, "parameters": _count(trained.parameters)}
    kernel = next(iter(experiment.network.arrays))
    shown = {name: jax.tree.map(lambda a: a[:SHOWN], w) for name, w in sets.items()}
    pictures = {
        name: np.asarray(_aligned(experiment, trained.reference, few)[kernel])
        for name, few in shown.items()
    }
    more: dict[str, report.Panel] = {
        "averages": (
            partial(_averages, together=together),
            "Test accuracy of predictions averaged over networks.",
        ),
        "filters": (
            partial(_filters, kernels=pictures),
            f"First-layer weights, aligned: {SHOWN} trained networks above {SHOWN} sampled ones, "
            "a row for each, a picture for each hidden neuron.",
        ),
    }
    return workdir.finish(
        about | results | {"together": together},
        lambda results: report.write(workdir, results, figures, more),
    )


def _count(parameters: Any) -> int:
    return sum(a.size for a in jax.tree.leaves(parameters))


def _together(experiment: Experiment, reference: Weights, weights: Weights) -> dict[str, Any]:
    """What networks predict on average, how much they differ, and what their mean weights do."""
    network, test, sizes = experiment.network, experiment.task.test, experiment.config.averages
    few = jax.tree.map(lambda a: a[: max(sizes)], weights)
    p = probabilities(network, few, test.x)
    averages = model_averages(p)
    return {
        "single": _means(jax.vmap(partial(calibration, labels=test.y))(p)),
        "average": {str(n): _means(calibration(averages[n - 1], test.y)) for n in sizes},
        "validation": _on_validation(experiment, weights),
        "divergence": mean_over_pairs(divergences(p)),
        "kernel_divergence": mean_over_pairs(kernel_divergences(p)),
        "mean_weights": _means(evaluate(network, _mean_weights(experiment, reference, few), test)),
    }


def _on_validation(experiment: Experiment, weights: Weights) -> dict[str, Any]:
    """What settings are chosen by: quality on data that no other figure here is taken on."""
    network, split = experiment.network, experiment.task.validation
    sizes = experiment.config.averages
    return _means(evaluate(network, weights, split)) | {
        "average": {str(n): average(network, weights, split, n) for n in sizes}
    }


def _mean_weights(experiment: Experiment, reference: Weights, weights: Weights) -> Weights:
    """One network, stacked: the mean of aligned canonical forms, brought back to their geometry."""
    form = experiment.quotient
    mean = jax.tree.map(lambda a: a.mean(0), _aligned(experiment, reference, weights))
    network = form.decode(form.manifold().project(mean))
    return jax.tree.map(lambda a: a[None], network)


def _aligned(experiment: Experiment, reference: Weights, weights: Weights) -> Weights:
    """Canonical forms of stacked networks, aligned to the reference."""
    form = experiment.quotient
    return align_all(form.spec, reference, encode_all(form, weights))[0]


def _means(metrics: Mapping[str, Array]) -> dict[str, float]:
    return {name: float(jnp.mean(values)) for name, values in metrics.items()}


def table(together: Mapping[str, Any]) -> str:
    """Calibration of single networks and of averages, and divergence, as text."""
    metrics = ("accuracy", "nll", "brier", "ece")
    lines = ["", f"{'':28}" + "".join(f"{m:>10}" for m in metrics) + f"{'divergence':>12}"]
    for name, found in together.items():
        sizes = sorted(map(int, found["average"]))
        rows = {"alone": found["single"]} | {
            f"average of {n}": found["average"][str(n)] for n in sizes if n > 1
        }
        for row, values in rows.items():
            title = report.ROWS[name].split(",")[0].split(" of ")[0]
            line = f"{title + ', ' + row:28}" + "".join(f"{values[m]:>10.4f}" for m in metrics)
            lines.append(line + (f"{found['divergence']['mean']:>12.5f}" if row == "alone" else ""))
        lines.append(f"{'  one of mean weights':28}{found['mean_weights']['accuracy']:>10.4f}")
    return "\n".join([*lines, "", "Divergence: Jensen–Shannon, in nats, mean over pairs."])


def _averages(axes: Axes, together: Mapping[str, Any]) -> None:
    colors = {"trained": report.COLORS["target"], "samples": report.COLORS["samples"]}
    sizes = sorted(map(int, together["samples"]["average"]))
    for name, color in colors.items():
        curve = [together[name]["average"][str(n)]["accuracy"] for n in sizes]
        axes.plot(sizes, curve, "o-", color=color, label=report.ROWS[name])
    axes.set(xlabel="networks averaged", ylabel="test accuracy", xscale="log")
    axes.set(xticks=sizes, xticklabels=sizes)
    axes.minorticks_off()
    axes.legend()


def _filters(axes: Axes, kernels: Mapping[str, np.ndarray]) -> None:
    """The kernels (network, input, neuron) as square pictures, a row for each network."""
    rows = [row for kernel in kernels.values() for row in kernel]
    axes.imshow(mosaic(rows), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.axis("off")


def mosaic(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays (side², n) as rows of n squares, each network's divided by its largest entry."""
    side = math.isqrt(len(rows[0]))
    squares = [
        np.pad(
            (row / max(np.abs(row).max(), 1e-12)).T.reshape(-1, side, side),
            ((0, 0), (1, 1), (1, 1)),
            constant_values=np.nan,
        )
        for row in rows
    ]
    return np.concatenate([np.concatenate(list(row), 1) for row in squares])


if __name__ == "__main__":
    main(run)
