"""Loss barriers between the networks of a zoo, before and after every kind of alignment."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

from jaxtyping import Array

from experiments.build import matchings
from experiments.measures.base import Point
from experiments.measures.quality import sets_of
from experiments.plots import heat_maps
from experiments.records import Figure, Figures
from experiments.stages import Run, encode_all
from wfm.batching import first_rows, take_rows
from wfm.evaluation import aligned_barriers, barriers, mean_over_pairs
from wfm.weights import Matching, Weights, align_all, barycentre, permute_all

TIMES = tuple(k / 10 for k in range(1, 10))  # on the path, for the largest barrier
PAIRWISE = ("weights", "activations")  # fast enough to align each pair separately
SETS, PAIRED = ("trained", "samples", "gaussian"), 8  # networks compared, of each set
SHOWN = ("none", "weights to barycentre", "sinkhorn_mid to barycentre")


def points(run: Run) -> Iterator[Point]:
    """Mean barriers (nats) between all pairs, by alignment method.

    Networks are the last of each trajectory, aligned in canonical form. `line` is straight between
    weights as trained; `geodesic` is between canonical forms. `max` is the largest barrier on the
    path instead of that half-way, and `train` uses training data instead of test data.
    """
    for name in _ways(run):
        yield Point({"aligned": name}, partial(_of, run, name))
    for name in PAIRWISE:
        yield Point({"aligned": f"{name}, each pair"}, partial(_of_each_pair, run, name))


def of_sets(run: Run) -> Iterator[Point]:
    """Mean barriers half-way between the first networks of a set, as they are and aligned."""

    def of(name: str, folder: Path) -> Figures:
        few = first_rows(sets_of(run).of(name), PAIRED)
        found = aligned_barriers(run.parts.quotient, few, run.parts.task.test)
        names = {"as they are": "barrier", "aligned": "aligned_barrier"}
        return {names[way]: Figure(f["mean"], error=f["error"]) for way, f in found.items()}

    for name in SETS:
        yield Point({"set": name}, partial(of, name))


def maps(run: Run) -> Iterator[Point]:
    """A picture of the barriers of all pairs, for some alignment methods."""

    def draw(folder: Path) -> Figures:
        heat_maps({name: _half_way(run, name) for name in SHOWN}, folder / "barriers.png")
        return {}

    yield Point({}, draw)


def _of(run: Run, name: str, folder: Path) -> Figures:
    p, moved = run.parts, _moved(run, name)
    form, task, flat = p.quotient, p.task, p.flat
    curved = encode_all(form, moved), form.manifold()
    return {
        "line": _mean(_half_way(run, name)),
        "line, max": _mean(barriers(p.network, flat, moved, task.test, TIMES)),
        "line, train": _mean(barriers(p.network, flat, moved, task.train)),
        "geodesic": _mean(barriers(form.spec, curved[1], curved[0], task.test)),
    }


def _of_each_pair(run: Run, name: str, folder: Path) -> Figures:
    p, by = run.parts, matchings(run.parts.network, run.parts.task)[name]
    weights = run.zoo.last().weights
    return {"line": _mean(barriers(p.network, p.flat, weights, p.task.test, matching=by))}


@lru_cache(maxsize=len(SHOWN))
def _half_way(run: Run, name: str) -> Array:
    p = run.parts
    return barriers(p.network, p.flat, _moved(run, name), p.task.test)


def _ways(run: Run) -> dict[str, Callable[[], Weights]]:
    """Each alignment method, and the networks aligned by it."""
    p, weights = run.parts, lambda: run.zoo.last().weights
    found: dict[str, Callable[[], Weights]] = {"none": weights}
    spec = p.quotient.spec
    for name, matching in matchings(spec, p.task).items():
        if matching is None:
            continue
        references = {
            "one network": _first,
            "barycentre": partial(barycentre, spec, matching=matching),
        }
        for place, reference in references.items():
            found[f"{name} to {place}"] = partial(_align, run, matching, reference)
    return found


def _first(points: Weights) -> Weights:
    return take_rows(points, 0)


def _align(run: Run, matching: Matching, reference: Callable[[Weights], Weights]) -> Weights:
    p, weights = run.parts, run.zoo.last().weights
    points = encode_all(p.quotient, weights)
    _, found = align_all(p.quotient.spec, reference(points), points, matching)
    return permute_all(p.network, found, weights)


@lru_cache(maxsize=1)
def _moved(run: Run, name: str) -> Weights:
    return _ways(run)[name]()


def _mean(matrix: Array) -> Figure:
    found = mean_over_pairs(matrix)
    return Figure(found["mean"], error=found["error"])
