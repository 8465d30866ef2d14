"""Published settings, trained for as many of their steps as the run's minutes allow."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax

from experiments.budget import seconds_left
from experiments.measures.base import Point
from experiments.measures.quality import judge
from experiments.records import Figures
from experiments.stages import Run, make_field, make_matching, moments
from wfm.training import flow_trainer

SHARE = 0.6  # of the time left for the steps; the rest compiles, samples and judges
TIMED = 50  # steps


def check(run: Run) -> None:
    """Refuse impossible settings."""
    _ = run.parts, run.reads


def points(run: Run) -> Iterator[Point]:
    """The preset, unless the time is up."""
    if seconds_left(run.config) > 0:
        yield Point({}, partial(_figures, run))


def _figures(run: Run, folder: Path) -> Figures:
    """Seconds a step, hours for all steps, and the quality after as many as there is time for."""
    c = run.config.training
    each = step_seconds(run)
    steps = max(TIMED, min(c.steps, int(SHARE * seconds_left(run.config) / each)))
    config = run.config.copy_and_resolve_references()
    config.training.update({"steps": steps, "report_every": min(c.report_every, steps)})
    shorter = Run(config, run.store)
    start = time.perf_counter()
    samples = shorter.samples
    figures = {
        "step_seconds": each,
        "hours": each * c.steps / 3600,
        "steps": steps,
        "minutes": (time.perf_counter() - start) / 60,
    }
    zoo = {f"zoo_{name}": figure for name, figure in judge(run, run.seen.last().weights).items()}
    return figures | zoo | judge(shorter, samples)


def step_seconds(run: Run) -> float:
    """Seconds of a training step, after the first ones, which compile."""
    parts, data = run.parts, run.data(run.seen)
    ends = data[1] if parts.pairing.from_initial else data
    matching, unit = make_matching(parts, moments(ends))
    field = make_field(parts, matching, unit)
    trainer, _, params = flow_trainer(matching, field, parts.optimizer, **parts.training)
    state = trainer.init(params, parts.keys["training"])
    state, _ = jax.block_until_ready(trainer.advance(state, data, TIMED))
    start = time.perf_counter()
    jax.block_until_ready(trainer.advance(state, data, TIMED))
    return (time.perf_counter() - start) / TIMED
