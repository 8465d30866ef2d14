"""The measures of a run, by name.

A measure is a function from a run to points: coordinates, and the work that gives the figures
there. The work is done once for all that it reads, for all callers (`experiments.store`).
"""

from experiments.measures import (
    barriers,
    bench,
    gaussian,
    laws,
    novelty,
    path_errors,
    pictures,
    presets,
    quality,
    steps,
    surfaces,
    together,
    transfer,
)
from experiments.measures.base import Measure, Point

MEASURES: dict[str, Measure] = {
    "quality": Measure(quality.points, "sample"),
    "size": Measure(quality.size, "train"),
    "novelty": Measure(novelty.points, "sample"),
    "together": Measure(together.points, "sample", ("averages",), together.check),
    "overview": Measure(pictures.overview, "sample"),
    "loss_curve": Measure(pictures.loss_curve, "train"),
    "averages": Measure(pictures.averages, "sample", ("averages",), together.check),
    "filters": Measure(pictures.filters, "sample"),
    "barriers": Measure(barriers.points, "zoo"),
    "barriers_of_sets": Measure(barriers.of_sets, "sample"),
    "barrier_maps": Measure(barriers.maps, "zoo"),
    "steps": Measure(steps.points, "train", ("sampling", "steps"), steps.check),
    "path_errors": Measure(path_errors.points, "sample", ("times",), path_errors.check),
    "transfer": Measure(transfer.points, "sample", ("transfer",), transfer.check),
    "gaussian": Measure(gaussian.points, check=gaussian.check),
    "surface": Measure(surfaces.points, check=surfaces.check),
    "bench": Measure(bench.points, settings=("seed",)),
    "laws": Measure(laws.points, settings=("seed",)),
    "preset": Measure(presets.points, check=presets.check),
}

__all__ = ["MEASURES", "Measure", "Point"]
