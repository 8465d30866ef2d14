"""Where on the path samples lose their quality: networks set back to a time, and led on from it.

python -m experiments.path_errors --config=configs/path_errors.py --workdir=runs/path_errors

Trained networks, ones that the flow learned from and ones that it never saw, are moved along the
path towards a draw of the prior, to x_t, and led back to t = 1 by the flow. What they have lost
then was lost after t. Where unseen networks lose more than seen ones the field has learned by
heart; where both lose alike it underfits. `experiments.publish.path_errors` makes a page of it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from experiments.command import Config, UsageError, main
from experiments.experiment import Experiment
from experiments.judge import judge_of
from experiments.sharing import sharing
from experiments.uci import Trained, prepare
from experiments.workdir import Workdir
from wfm.batching import map_batched
from wfm.flows import Field, Flow, Integrator
from wfm.manifolds import Point
from wfm.weights import Weights
from wfm.zoo import WeightSet


def run(config: Config, path: str) -> None:
    """Every set of networks, from every time on."""
    if not config.times or not all(0 <= t < 1 for t in config.times):
        raise UsageError(f"config.times is {tuple(config.times)}; choose times from 0 to below 1")
    experiment = Experiment(config.base)
    workdir = Workdir(path, config)
    with sharing(config.shared, config.base, workdir.path):
        trained = prepare(experiment, workdir)
    judge, lead_on = judge_of(experiment, trained), leader(experiment, trained)
    sets = {"seen": trained.seen.last(), "unseen": trained.held_out.last()}
    points: list[dict[str, Any]] = []
    with workdir.stage("measure"):
        for name, networks in sets.items():
            examples = _examples(experiment, trained, networks)
            for t in config.times:
                weights, losses = lead_on(*examples, t)
                found = judge(weights) | {"flow_loss": float(losses.mean())}
                points.append({"networks": name, "t": t} | found)
                print(f"{name}, t = {t:g}: {found['accuracy']:.4f}", flush=True)
    zoo = {name: judge(networks.weights) for name, networks in sets.items()}
    workdir.finish({"seed": config.base.seed, "zoo": zoo, "points": points})


def leader(
    experiment: Experiment, trained: Trained
) -> Callable[..., tuple[Weights, Float[Array, " n"]]]:
    """From stacked examples and a time to where the flow leads them, and its loss in x_t."""
    flow, field, how = trained.flow, trained.field, experiment.sampling

    @jax.jit
    def lead_on(x0: Point, x1: Point, keys: Key[Array, " n"], t: ArrayLike):
        def one(example: tuple[Point, Point, Key[Array, ""]]) -> tuple[Point, Array]:
            x0, x1, key = example
            return led_on(flow, field, how.integrator, x0, x1, key, t)

        ends, losses = map_batched(one, (x0, x1, keys), how.chunk)
        return jax.vmap(experiment.form.decode)(ends), losses

    return lead_on


def led_on(
    flow: Flow,
    field: Field,
    how: Integrator,
    x0: Point,
    x1: Point,
    key: Key[Array, ""],
    t: ArrayLike,
) -> tuple[Point, Array]:
    """Where the flow leads x_t of the path from `x0` to `x1`, in steps from t to 1, and its loss.

    The grid is that of `how`, shortened to what is left of the way.
    """
    x, velocity = flow.path.sample(flow.space, x0, x1, jnp.asarray(t), key)
    out = field(t, x)
    loss = flow.prediction.loss(flow.space, flow.target, x, x1, velocity, out, flow.unit)
    rest = dataclasses.replace(how, grid=lambda steps: t + (1 - t) * how.grid(steps))
    return flow.integrate(field, x, rest), loss


def _examples(
    experiment: Experiment, trained: Trained, networks: WeightSet
) -> tuple[Point, Point, Key[Array, " n"]]:
    """x₀ and x₁ of as many networks as samples are drawn, as the coupling pairs them."""
    data = experiment.data(*experiment.pairs(networks, trained.reference))
    few = jax.tree.map(lambda a: a[: experiment.sampling.networks], data)
    return trained.flow.examples(few, experiment.keys["sampling"])


if __name__ == "__main__":
    main(run)
