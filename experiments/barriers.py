"""Loss barriers between the networks of a zoo, before and after alignment in every way.

python -m experiments.barriers --config=configs/uci.py --workdir=runs/barriers

Takes the configs of `experiments.uci`; `--config.zoo.networks=250` for as many as published.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from experiments import report
from experiments.choices import matchings
from experiments.command import Config, main
from experiments.experiment import Experiment, encode_all, permute_all
from experiments.workdir import Workdir
from wfm.evaluation import barriers, mean_over_pairs
from wfm.weights import Permutation, Weights, align_all, barycentre

TIMES = tuple(k / 10 for k in range(1, 10))  # where on the way the largest barrier is looked for
PAIRWISE = ("weights", "activations")  # quick enough for each pair on its own
SHOWN = ("none", "weights to barycentre", "sinkhorn_mid to barycentre")


def measure(experiment: Experiment, picture: Path) -> dict[str, dict[str, Any]]:
    """Mean barriers (nats) by way of aligning and kind of path; a picture of all pairs.

    Networks are the last of each trajectory, aligned in canonical form. `line` runs straight
    between weights as trained, `geodesic` between canonical forms; `max` is the largest barrier
    on the way instead of that half-way, `train` is on training data instead of test data.
    """
    network, form, task = experiment.network, experiment.quotient, experiment.task
    weights = experiment.make_zoo().last().weights
    flat, curved = experiment.initial, form.manifold()
    found, matrices = {}, {}
    for name, permutations in _ways(experiment, encode_all(form, weights)):
        moved = permute_all(network, permutations, weights) if permutations else weights
        points = encode_all(form, moved)
        matrices[name] = barriers(network, flat, moved, task.test)
        found[name] = {
            "line": mean_over_pairs(matrices[name]),
            "line, max": mean_over_pairs(barriers(network, flat, moved, task.test, TIMES)),
            "line, train": mean_over_pairs(barriers(network, flat, moved, task.train)),
            "geodesic": mean_over_pairs(barriers(form.spec, curved, points, task.test)),
        }
    for name in PAIRWISE:
        by = matchings(network, task)[name]
        found[f"{name}, each pair"] = {
            "line": mean_over_pairs(barriers(network, flat, weights, task.test, matching=by))
        }
    report.heat_maps({name: matrices[name] for name in SHOWN}, picture)
    return found


def _ways(experiment: Experiment, points: Weights) -> Iterator[tuple[str, Permutation | None]]:
    """Each way to align, and the permutations that it finds."""
    spec = experiment.quotient.spec
    for name, matching in matchings(spec, experiment.task).items():
        if matching is None:
            yield name, None
            continue
        one = jax.tree.map(lambda a: a[0], points)
        references = {"one network": one, "barycentre": barycentre(spec, points, matching)}
        for place, reference in references.items():
            yield f"{name} to {place}", align_all(spec, reference, points, matching)[1]


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The barriers as Markdown."""
    columns = list(next(iter(found.values())))
    lines = [f"| aligned by | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name, row in found.items():
        cells = [
            f"{row[c]['mean']:.4f} ± {row[c]['error']:.4f}" if c in row else "" for c in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(config: Config, path: str) -> None:
    """Measure, print, keep."""
    experiment = Experiment(config)
    workdir = Workdir(path, config)
    results = workdir.results("barriers.png")
    if results is None:
        with workdir.stage("barriers"):
            found = measure(experiment, workdir / "barriers.png")
        results = workdir.finish({"seed": config.seed, "barriers": found})
    print(table(results["barriers"]))


if __name__ == "__main__":
    main(run)
