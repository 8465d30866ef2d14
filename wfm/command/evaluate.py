"""How good networks are, and how new: a table of accuracy, loss, novelty and barriers.

Networks are those in a file or folder, or drawn from a flow. With --against, a zoo of trained ones
is judged beside them, and so is what every flow must beat: draws of a Gaussian fitted to that zoo,
aligned, along its 30 principal directions. *Novelty* is the median distance to the nearest of the
zoo's networks, up to permutation and rescaling, over the same median for its held-out trajectories:
a copy has 0, an independently trained network about 1. *Average* is the accuracy of the mean
prediction of up to 32 networks. *Barriers* are how much larger the loss is half-way between two
networks, before and after alignment. Figures are of the task's test split, whose inputs are
standardised by its training split; ± is a standard deviation over networks. --report writes them,
with histograms, what they mean and how they were made, to one HTML file.

  wfm evaluate flow.zip --task iris --against nets --report report.html
  wfm evaluate nets --network mlp:4,8,3 --layout torch --task iris
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wfm.batching import first_rows
from wfm.command.described import read_flow
from wfm.command.forms import form_for
from wfm.command.inspect import is_flow
from wfm.command.networks import Network, network
from wfm.command.options import (
    OWN,
    add_network,
    add_reading,
    add_seed,
    add_skip_bad,
    count,
    read_zoo,
)
from wfm.command.progress import say
from wfm.command.report import Row, check_report, write_report
from wfm.command.sample import add_steps, draw
from wfm.errors import UserError
from wfm.evaluation import (
    Nearest,
    aligned_barriers,
    ensemble_accuracy,
    evaluate,
    gaussian_networks,
    median_ratio,
)
from wfm.tasks import Split, load_task
from wfm.weights import WeightForm, Weights, barycentre
from wfm.zoo import WeightSet

DRAWN = 100  # networks of the Gaussian that flows must beat
AVERAGED, PAIRED = 32, 8  # the largest numbers of networks averaged, and compared in pairs
TASK = "a data set, such as iris, wine, breast_cancer, digits, mnist or fashion_mnist"
SPLIT = "which way to divide the data into training and test inputs; default: 0"
HELD_OUT = 0.2  # of the zoo's trajectories, for the unit of novelty
OVER = "mean ± standard deviation over networks"
COLUMNS = {
    "networks": "those judged, below the zoo that they are compared with (the last of each of its "
    "trajectories)",
    "number": "how many networks",
    "accuracy": f"the share of test inputs that get the right class; {OVER}",
    "loss": f"mean cross-entropy of test inputs, in nats; {OVER}",
    "average": f"accuracy of the mean prediction of the first {AVERAGED} networks",
    "barrier": "how much larger the loss is half-way between two networks than the mean of theirs, "
    f"in nats; mean over pairs of the first {PAIRED}",
    "aligned": "the same, once their neurons are put in one order",
    "novelty": "median distance to the nearest network of the zoo, up to permutation and "
    "rescaling, over the same median for its held-out trajectories: a copy has 0, an independently "
    "trained network about 1",
}
"""The columns of the table, and what they mean."""


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("path", help="a file or folder of networks, or a flow")
    parser.add_argument("--task", required=True, help=TASK)
    parser.add_argument("--split", type=int, default=0, help=SPLIT)
    parser.add_argument("--against", metavar="ZOO", help="trained networks to compare with")
    parser.add_argument("-n", type=count, default=100, help="draws from a flow; default: 100")
    add_network(parser, required=False)
    add_reading(parser)
    add_skip_bad(parser)
    add_steps(parser)
    add_seed(parser)
    parser.add_argument(
        "--report", metavar="FILE", type=Path, help="a new file for a report: report.html"
    )


def run(options: argparse.Namespace) -> None:
    """Print the table, and write the report."""
    if options.report:
        check_report(options.report)
    task = load_task(options.task, options.split)
    known, judged, name, stored = _judged(options)
    test = Split(known.inputs_of(task.test.x), task.test.y)
    if options.against is None:
        rows = [_row(name, form_for(known.spec, judged), judged, test)]
    else:
        options.layout = options.layout or stored  # the flow may know that of its zoo
        zoo = read_zoo(options.against, options, known).networks
        rows = _compared(form_for(known.spec, zoo.weights), zoo, {name: judged}, test, options)
    columns = [c for c in COLUMNS if any(c in row.cells for row in rows)]
    print(table(columns, [row.cells for row in rows]))
    if options.report:
        title, meaning = f"{name} on {options.task}", {c: COLUMNS[c] for c in columns}
        write_report(options.report, title, rows, meaning, _settings(options, known))
        print(f"report: {options.report}")


def _settings(options: argparse.Namespace, known: Network) -> dict[str, str]:
    """What was asked for, in words."""
    asked = {
        "networks": options.path,
        "what they are": options.network or known.code,
        "compared with": options.against or "nothing",
        "layout of files": options.layout or OWN,
        "task": f"{options.task}, test split {options.split}",
    }
    if not _draws(options.path):
        return asked
    how = f"{options.n} of the flow, in {options.integrate} Euler steps, seed {options.seed}"
    return asked | {"draws": how}


def _draws(path: str) -> bool:
    """Whether networks are to be drawn from a flow at a path, or are there themselves."""
    return is_flow(Path(path)) or "://" in path


def _judged(options: Any) -> tuple[Network, Weights, str, str | None]:
    """The networks to judge: what they are, weights, what to call them, and how they are stored."""
    if _draws(options.path):
        flow, known, form, said = read_flow(options.path, options.network)
        drawn = draw(flow, form, options.n, options.seed, options.integrate)
        name = f"samples of {Path(options.path).name}"
        return known, jax.tree.map(jnp.asarray, drawn), name, said.get("layout")
    if not options.network:
        raise UserError(f"say by --network what the networks of {options.path} are")
    known = network(options.network)
    weights = read_zoo(options.path, options, known).networks.weights
    return known, weights, Path(options.path).name, options.layout


def _compared(
    form: WeightForm, zoo: WeightSet, judged: dict[str, Weights], test: Split, options: Any
) -> list[Row]:
    """The zoo's row, and below it those of what is judged and of a Gaussian, with novelty."""
    name, last = Path(options.against).name, zoo.last().weights
    reference = barycentre(form.spec, form.encode_all(last))
    if len(zoo) > 1:
        key = jax.random.key(options.seed)
        drawn = gaussian_networks(form, reference, zoo.weights, key, DRAWN)
        judged = judged | {f"Gaussian fitted to {name}": drawn}
    rows, novelty = [_row(name, form, last, test)], _novelty(form, reference, zoo)
    for each, weights in judged.items():
        rows.append(_row(each, form, weights, test))
        rows[-1].cells["novelty"] = f"{novelty(weights):.3f}"
    return rows


def _row(name: str, form: WeightForm, weights: Weights, test: Split) -> Row:
    spec = form.network
    figures = {n: np.asarray(a) for n, a in evaluate(spec, weights, test).items()}
    average = ensemble_accuracy(spec, first_rows(weights, AVERAGED), test)
    cells = {"networks": name, "number": str(len(figures["loss"]))}
    cells |= {n: f"{a.mean():.3f} ± {a.std():.3f}" for n, a in figures.items()}
    cells |= {"average": f"{average:.3f}"} | _barriers(form, weights, test)
    return Row(cells, figures)


def _barriers(form: WeightForm, weights: Weights, test: Split) -> dict[str, str]:
    """Mean loss barriers between pairs of networks, as they are and aligned."""
    few = first_rows(weights, PAIRED)
    if len(next(iter(few.values()))) < 2:
        return {}
    found = aligned_barriers(form, few, test)
    columns = {"barrier": "as they are"} | ({"aligned": "aligned"} if form.spec.permutable else {})
    return {column: f"{found[way]['mean']:.3f}" for column, way in columns.items()}


def _novelty(form: WeightForm, reference: Weights, zoo: WeightSet) -> Callable[[Weights], float]:
    """`median_ratio` of distances to the zoo, with those of its held-out part as the unit."""
    if len(np.unique(zoo.trajectory)) < 2:
        say("novelty needs two trajectories in the zoo at least")
        return lambda weights: math.nan
    share = max(HELD_OUT, 1 / len(np.unique(zoo.trajectory)))
    seen, unseen = zoo.split(share)
    unit = Nearest(form, reference, seen.weights).distances(unseen.weights)
    nearest = Nearest(form, reference, zoo.weights)
    return lambda weights: median_ratio(nearest.distances(weights), unit)


def table(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as a table."""
    cells = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["  ".join(f"{c:{w}}" for c, w in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
