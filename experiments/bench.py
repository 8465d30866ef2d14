"""Time a training step of the flow and the sampling of networks: medians after a warm-up.

python -m experiments.bench --config=configs/uci.py --workdir=runs/bench [--config.KEY=VALUE …]

Takes the configs of `experiments.uci`. Compilation is counted apart.
"""

import statistics
import time
from collections.abc import Callable

import jax

from experiments.command import Config, main
from experiments.uci import Experiment, encode_all, sampler
from experiments.workdir import Workdir

REPEATS = 5
STEPS = 5  # of training, in one measurement


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


def run(config: Config, path: str) -> None:
    """Measure on untrained networks: times do not depend on the values of weights."""
    experiment = Experiment(config)
    workdir = Workdir(path, config)
    keys = jax.random.split(experiment.keys["initial"], 2 * config.training.batch_size)
    points = encode_all(experiment.form, jax.vmap(experiment.initial.random)(keys))
    flow, unit = experiment.make_flow(points)
    trainer, bind, parameters = experiment.make_trainer(flow, experiment.make_field(unit))
    state = trainer.init(parameters, experiment.keys["training"])
    draw = sampler(flow, experiment.form, bind(parameters), config)
    times = {
        f"{STEPS} training steps": timed(lambda: trainer.advance(state, points, STEPS)),
        f"{config.sampling.steps} steps of sampling {config.sampling.networks} networks": timed(
            lambda: draw(experiment.keys["sampling"])
        ),
    }
    workdir.finish({"medians": times})
    for name, seconds in times.items():
        print(
            f"{name}: {seconds['median']:.3f} s ({seconds['least']:.3f} to {seconds['most']:.3f}, "
            f"{REPEATS} runs); with compilation {seconds['first']:.1f} s"
        )


if __name__ == "__main__":
    main(run)
