"""Published figures, by coordinates: Erdogan (2025, arXiv 2504.03710)."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.records import Record

# Breast cancer, MLP 30-16-16-2: accuracy and loss, each with its spread, by weights.
_SMALL = {
    ("Euclidean", "as trained"): ((0.998, 0.006), (0.101, 0.050)),
    ("Euclidean", "aligned"): ((0.998, 0.006), (0.070, 0.040)),
    ("Euclidean", "aligned + OT"): ((0.993, 0.010), (0.053, 0.028)),
    ("Normalized", "as trained"): ((0.993, 0.009), (0.027, 0.014)),
    ("Normalized", "aligned"): ((0.989, 0.011), (0.030, 0.015)),
    ("Normalized", "aligned + OT"): ((0.988, 0.018), (0.044, 0.047)),
    ("Geometric", "as trained"): ((0.992, 0.011), (0.019, 0.009)),
    ("Geometric", "aligned"): ((0.993, 0.001), (0.018, 0.001)),
    ("Geometric", "aligned + OT"): ((0.991, 0.011), (0.020, 0.012)),
}
_SMALL_ZOO = ((0.992, 0.010), (0.048, 0.032))
_BARRIERS = {"none": (0.244, 0.009), "weights to one network": (0.070, 0.001)}
# MNIST 784-10-10: accuracy with its spread, and loss.
_MNIST = {
    ("Euclidean", "independent"): ((0.737, 0.085), (0.814, None)),
    ("Euclidean", "ot"): ((0.757, 0.077), (0.753, None)),
    ("Normalized", "independent"): ((0.753, 0.074), (1.537, None)),
    ("Normalized", "ot"): ((0.706, 0.078), (1.608, None)),
    ("Geometric", "independent"): ((0.737, 0.070), (1.457, None)),
    ("Geometric", "ot"): ((0.786, 0.064), (1.443, None)),
}
_MNIST_ZOO = ((0.933, 0.009), (0.231, None))


def _quality(
    at: Mapping[str, Any], figures: tuple[tuple[float, float | None], ...]
) -> list[Record]:
    pairs = zip(("accuracy", "loss"), figures, strict=True)
    return [Record(at, metric, value, std=std) for metric, (value, std) in pairs]


def _all() -> Iterator[Record]:
    small, mnist = {"task": "breast_cancer"}, {"task": "mnist"}
    for (flow, weights), figures in _SMALL.items():
        yield from _quality({**small, "flow": flow, "weights": weights, "set": "samples"}, figures)
    yield from _quality({**small, "set": "zoo"}, _SMALL_ZOO)
    for way, (value, error) in _BARRIERS.items():
        yield Record({**small, "aligned": way}, "line", value, error=error)
    for (flow, coupling), figures in _MNIST.items():
        yield from _quality(
            {**mnist, "flow": flow, "coupling": coupling, "set": "samples"}, figures
        )
    yield from _quality({**mnist, "set": "trained"}, _MNIST_ZOO)


PUBLISHED = tuple(_all())
