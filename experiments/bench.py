"""Time training steps, couplings, sampling and alignment: medians after a warm-up.

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
from wfm.weights import Matching, align_all

REPEATS = 5
STEPS = 5  # of training, in one measurement
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


def run(config: Config, path: str) -> None:
    """Measure on untrained networks: times do not depend on the values of weights."""
    experiment = Experiment(config)
    workdir = Workdir(path, config)
    keys = jax.random.split(experiment.keys["initial"], 2 * config.training.batch_size)
    points = encode_all(experiment.form, jax.vmap(experiment.initial.random)(keys))
    flow, unit = experiment.make_flow(points)
    trainer, bind, parameters = experiment.make_trainer(flow, experiment.make_field(flow, unit))
    state = trainer.init(parameters, experiment.keys["training"])
    draw = experiment.sampling.sampler(flow, experiment.form, bind(parameters))
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
