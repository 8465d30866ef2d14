"""How new networks are: in weights, up to symmetry, and in predictions."""

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array

from experiments.measures.base import Point
from experiments.measures.quality import sets_of
from experiments.records import Figure, Figures
from experiments.stages import Run
from wfm.evaluation import median_ratio, predictions, ratio_error, smallest_disagreement

SETS = ("held out", "samples", "gaussian", "noise", "averages", "crossed")


def points(run: Run) -> Iterator[Point]:
    """Novelty of samples, held-out networks and baselines.

    `novelty`: median distance to the nearest network that the flow learned from, divided by that of
    held-out trajectories. `disagreement`: mean share of test inputs classified differently from the
    network that agrees most.
    """
    for name in SETS:
        yield Point({"set": name}, partial(_of, run, name))


def _of(run: Run, name: str, folder: Path) -> Figures:
    sets, test, network = sets_of(run), run.parts.task.test, run.parts.network
    weights = sets.of(name)
    disagreement = smallest_disagreement(predictions(network, weights, test.x), _known(run))
    return {
        "novelty": _novelty(run, name),
        "disagreement": float(disagreement.mean()),
    }


@lru_cache(maxsize=1)
def _known(run: Run) -> Array:
    return predictions(run.parts.network, run.seen.weights, run.parts.task.test.x)


def _novelty(run: Run, name: str) -> Figure:
    distances, unseen = (sets_of(run).distances(which) for which in (name, "held out"))
    if name != "samples":
        return Figure(float(jnp.median(distances)) / float(sets_of(run).unit))
    key = jax.random.fold_in(run.parts.keys["novelty"], 2)
    error = ratio_error(distances, unseen, run.held_out.trajectory, key)
    return Figure(median_ratio(distances, unseen), error=float(error))
