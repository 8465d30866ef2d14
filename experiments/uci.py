"""Learn a flow over networks trained on a small data set, and sample new ones.

python -m experiments.uci --config=configs/uci.py:geometric --workdir=runs/demo

The workdir is the run: the same command resumes it, and prints it once it is finished.
"""

import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from experiments import report
from experiments.command import Config, main
from experiments.experiment import KEPT, Experiment, moments, of_flow
from experiments.workdir import Workdir
from wfm.digest import digest
from wfm.evaluation import (
    Nearest,
    averaged_pairs,
    crossed_pairs,
    evaluate,
    median_ratio,
    predictions,
    ratio_error,
    smallest_disagreement,
    stack_flat,
    with_noise,
)
from wfm.flows import Field, Flow
from wfm.training import Checkpoints, Diverged, Stopped, StopSignals, TrainState, progress_bar
from wfm.weights import Weights, save_weights
from wfm.zoo import WeightSet

REPORTS_PER_CHECKPOINT = 10


def train(
    workdir: Workdir,
    experiment: Experiment,
    flow: Flow,
    field: nnx.Module,
    data: Any,
    unseen: Any,
    about: dict[str, Any],
) -> tuple[Callable, TrainState]:
    """Train the field from the newest checkpoint on; how to bind parameters, and the state to use.

    `unseen`: data that the loss of each checkpoint is taken on, like `data`. `about`: what else
    than the config all states depend on; those of another one are refused.
    """
    c = experiment.config.training
    trainer, bind, parameters = experiment.make_trainer(flow, field)
    state = trainer.init(parameters, experiment.keys["training"])
    checkpoints = Checkpoints(workdir / "checkpoints", of_flow(experiment.config) | about)
    state = checkpoints.restore(state) or state
    workdir.metrics.truncate("step", int(state.step))
    validate = experiment.make_validation(flow, bind, unseen)

    with (
        StopSignals() as signals,
        progress_bar("Training the flow", c.steps, int(state.step)) as bar,
    ):

        def on_report(state: TrainState, metrics: dict[str, float]) -> None:
            step, stopped = int(state.step), signals.noted()
            bar.update(step, f"loss {metrics['loss']:.4f}")
            loss = None
            if step == c.steps or step % (REPORTS_PER_CHECKPOINT * c.report_every) == 0:
                metrics["validation_loss"] = loss = float(validate(state.average))
            workdir.metrics.write(step=step, **metrics)
            if loss is not None or stopped:
                # Not judged for a signal: where a run is stopped must not decide which is best.
                checkpoints.save(state, loss)
            if stopped and step < c.steps:
                checkpoints.close()
                raise Stopped(stopped, step)

        try:
            state = trainer.fit(state, data, c.steps, c.report_every, on_report)
        except Diverged as error:
            checkpoints.save(error.state)
            checkpoints.close()
            raise
    if KEPT[c.keep]:
        state = checkpoints.best(state) or state
    checkpoints.close()
    return bind, state


def run(config: Config, path: str) -> None:
    """The whole experiment."""
    experiment = Experiment(config)
    workdir = Workdir(path, config)
    results = workdir.results("report.html")
    if results is None:
        results = _run(experiment, workdir)
    print(report.table(results))
    print(f"Report: {workdir / 'report.html'}")


class Trained(NamedTuple):
    """What a run has before it draws samples."""

    seen: WeightSet
    held_out: WeightSet
    reference: Weights
    flow: Flow
    field: Field
    parameters: Any  # of the field
    sizes: dict[str, float]  # of the entries of each array that the flow learned from


def prepare(experiment: Experiment, workdir: Workdir) -> Trained:
    """Zoo, alignment and the trained field, from whatever of them the workdir holds already."""
    config, network = experiment.config, experiment.network
    zoo_file = workdir / "zoo" / "zoo.safetensors"
    with workdir.stage("zoo"):
        groups = workdir / "zoo" / "groups"
        if zoo_file.exists():
            zoo = WeightSet.load(zoo_file, network)
        else:
            zoo = experiment.make_zoo(groups)
            zoo.save(zoo_file)
        shutil.rmtree(groups, ignore_errors=True)
    seen, held_out = zoo.split(config.zoo.held_out, config.seed)
    with workdir.stage("align"):
        reference = experiment.reference(seen)
        initial, points = jax.block_until_ready(experiment.pairs(seen, reference))
    with workdir.stage("train"):
        sizes = {name: m.size for name, m in moments(points).items()}
        flow, unit = experiment.make_flow(sizes)
        field = experiment.make_field(flow, unit)
        unseen = experiment.pairs(held_out, reference)
        data, unseen = (experiment.data(*both) for both in ((initial, points), unseen))
        # Whatever became of the zoo: a flow that learned from another one is never used for it.
        about = {"digest of the zoo": digest(zoo)}
        bind, state = train(workdir, experiment, flow, field, data, unseen, about)
    parameters = state.average
    return Trained(seen, held_out, reference, flow, bind(parameters), parameters, sizes)


def _run(experiment: Experiment, workdir: Workdir) -> dict[str, Any]:
    trained = prepare(experiment, workdir)
    samples = sample(experiment, workdir, trained)
    with workdir.stage("evaluate"):
        results, figures = evaluate_samples(experiment, trained, samples)
    return workdir.finish(
        {"seed": experiment.config.seed} | results,
        lambda results: report.write(workdir, results, figures),
    )


def sample(experiment: Experiment, workdir: Workdir, trained: Trained) -> Weights:
    """New networks, which the workdir keeps."""
    flow, field = trained.flow, trained.field
    with workdir.stage("sample"):
        draw = experiment.sampling.sampler(flow, experiment.form, field)
        samples = jax.block_until_ready(draw(experiment.keys["sampling"]))
        save_weights(workdir / "samples.safetensors", samples)
        if experiment.config.sampling.trajectories:
            _save_trajectories(workdir, experiment, flow, field)
    return samples


def _save_trajectories(workdir: Workdir, experiment: Experiment, flow: Flow, field: Field) -> None:
    """Networks at all times on the way of each sample, a file for each chunk of samples."""
    key = experiment.keys["sampling"]
    ways = experiment.sampling.trajectories(flow, experiment.form, field, key)
    for number, networks in enumerate(ways):
        save_weights(workdir / "trajectories" / f"{number:04}.safetensors", networks)


def evaluate_samples(
    experiment: Experiment, trained: Trained, samples: Weights
) -> tuple[dict[str, Any], dict[str, report.Networks]]:
    """Quality and novelty of the samples beside those of the networks they are learned from.

    Baselines are made of as many trained networks as there are samples. Also what the figures
    show of each set of networks.
    """
    network, form, test = experiment.network, experiment.quotient, experiment.task.test
    seen, held_out = trained.seen, trained.held_out
    last = seen.last().weights
    few = jax.tree.map(lambda a: a[: len(jax.tree.leaves(samples)[0])], last)
    noise_key, pair_key = jax.random.split(experiment.keys["novelty"])
    ratio_key = jax.random.fold_in(experiment.keys["novelty"], 2)
    others = {
        "samples": samples,
        "held_out": held_out.weights,
        "noisy": with_noise(few, noise_key),
        "averaged": averaged_pairs(form, few, pair_key),
        "crossed": crossed_pairs(form, few, pair_key),
    }
    nearest = Nearest(form, trained.reference, seen.weights)
    distance = {name: nearest.distances(w) for name, w in others.items()}
    known = predictions(network, seen.weights, test.x)
    disagreement = {
        name: smallest_disagreement(predictions(network, w, test.x), known)
        for name, w in others.items()
    }
    sets = {"target": seen.weights, "trained": last} | others
    metrics = {name: evaluate(network, w, test) for name, w in sets.items()}
    results = {name: _spread(values) for name, values in metrics.items()} | {
        "novelty": {
            "ratio": median_ratio(distance["samples"], distance["held_out"]),
            "ratio_error": ratio_error(
                distance["samples"], distance["held_out"], held_out.trajectory, ratio_key
            ),
            "distance": {name: float(jnp.median(d)) for name, d in distance.items()},
            "disagreement": {name: float(d.mean()) for name, d in disagreement.items()},
        }
    }
    aligned = {"target": nearest.points} | {
        name: nearest.align(others[name]) for name in ("held_out", "samples")
    }
    figures = {
        name: report.Networks(**metrics[name], weights=stack_flat(points))
        for name, points in aligned.items()
    }
    return results, figures


def _spread(metrics: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    return {
        name: {"mean": float(values.mean()), "std": float(values.std())}
        for name, values in metrics.items()
    }


if __name__ == "__main__":
    main(run)
