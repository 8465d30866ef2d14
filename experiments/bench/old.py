"""Time training steps, couplings, sampling, densities and alignment: medians after a warm-up.

python -m experiments.bench --config=configs/uci.py --workdir=runs/bench [--config.KEY=VALUE …]

Takes the configs of `experiments.uci`. Compilation is counted apart.
"""

import statistics
import time
from collections.abc import Callable

import jax

from experiments.choices import COUPLINGS, matchings
from experiments.command import Config, main
from experiments.uci import Experiment, encode_all
from experiments.workdir import Workdir
from wfm.flows import Field, Flow, Hutchinson
from wfm.weights import Matching, Weights, align_all

REPEATS = 5
STEPS = 5  # of training, in one measurement
DENSITIES = 32  # networks whose log-density is estimated
ALIGNED = {"weights": 4000, "activations": 4000, "sinkhorn_l2": 250, "sinkhorn_mid": 250}


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the first call, and the median and range of `REPEATS` more."""

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(work())
        return time.perf_counter() - start

    first, rest = once(), [once() for _ in range(REPEATS)]
    return {
        "first": first,
        "median": statistics.median(rest),
        "least": min(rest),
        "most": max(rest),
    }


def aligning(experiment: Experiment, n: int, matching: Matching) -> Callable[[], object]:
    """The work of aligning `n` untrained networks to another one."""
    keys = jax.random.split(experiment.keys["novelty"], n + 1)
    points = encode_all(experiment.quotient, jax.vmap(experiment.initial.random)(keys))
    one, others = (jax.tree.map(lambda a, s=s: a[s], points) for s in (0, slice(1, None)))
    return lambda: align_all(experiment.quotient.spec, one, others, matching)


def densities(
    experiment: Experiment, flow: Flow, field: Field, points: Weights
) -> Callable[[], object]:
    """The work of estimating the log-density of a few points, one random probe each."""
    keys = jax.random.split(experiment.keys["novelty"], DENSITIES)
    how = experiment.sampling.integrator
    one = lambda x, key: flow.log_prob(field, x, how, Hutchinson(), key)  # noqa: E731
    all_of_them = jax.jit(jax.vmap(one))
    few = jax.tree.map(lambda a: a[:DENSITIES], points)
    return lambda: all_of_them(few, keys)


def run(config: Config, path: str) -> None:
    """Measure on untrained networks: times do not depend on the values of weights."""
    experiment = Experiment(config)
    workdir = Workdir(path, config)
    n = max(2 * config.training.batch_size, DENSITIES)
    keys = jax.random.split(experiment.keys["initial"], n)
    points = encode_all(experiment.form, jax.vmap(experiment.initial.random)(keys))
    flow, unit = experiment.make_flow(points)
    trainer, bind, parameters = experiment.make_trainer(flow, experiment.make_field(flow, unit))
    state = trainer.init(parameters, experiment.keys["training"])
    field = bind(parameters)
    draw = experiment.sampling.sampler(flow, experiment.form, field)
    pair = lambda c: jax.jit(lambda k: c.pair(flow.space, flow.prior, batch, k))  # noqa: E731
    batch = jax.tree.map(lambda a: a[: config.training.batch_size], points)
    couplings = {
        name: pair(pairing.coupling(experiment.form.spec))
        for name, pairing in COUPLINGS.items()
        if not pairing.from_initial
    }
    times = {
        f"{STEPS} training steps": timed(lambda: trainer.advance(state, points, STEPS)),
        f"{config.sampling.steps} steps of sampling {config.sampling.networks} networks": timed(
            lambda: draw(experiment.keys["sampling"])
        ),
    } | {
        f"pairing {config.training.batch_size} networks, {name}": timed(
            lambda run=run: run(experiment.keys["training"])
        )
        for name, run in couplings.items()
    }
    if flow.space.dim == flow.target.dim:  # else samples have no density
        times[f"densities of {DENSITIES} networks, {config.sampling.steps} steps"] = timed(
            densities(experiment, flow, field, points)
        )
    for name, matching in matchings(experiment.quotient.spec, experiment.task).items():
        if matching and name in ALIGNED:
            work = aligning(experiment, ALIGNED[name], matching)
            times[f"aligning {ALIGNED[name]} networks, {name}"] = timed(work)
    workdir.finish({"medians": times})
    for name, seconds in times.items():
        print(
            f"{name}: {seconds['median']:.3f} s ({seconds['least']:.3f} to {seconds['most']:.3f}, "
            f"{REPEATS} runs); with compilation {seconds['first']:.1f} s"
        )


if __name__ == "__main__":
    main(run)
