"""New networks from a flow, in the format and layout that you want.

The flow says what its networks are, if `wfm learn` or `python -m experiments export` made it; else,
or if they are those of a function of yours, give --network. The files are those that were learned
from, in their layout; for a flow without one, files of PyTorch have the layout of PyTorch.

  wfm sample flow.zip -n 100 --out new
  wfm sample flow.zip -n 1000 --out new.safetensors --layout own --seed 1
"""

import argparse
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Key

from wfm.batching import rows_from
from wfm.command.described import read_flow
from wfm.command.options import LAYOUT, add_network, add_out, add_seed, check_new, count
from wfm.command.progress import track
from wfm.command.saving import format_for, layout_for, save
from wfm.errors import UserError
from wfm.flows import Flow, Integrator
from wfm.weights import WeightForm, Weights

CHUNK = 32  # networks at a time


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("flow", help="a flow: a zip file, a folder, or a URL with #sha256=…")
    parser.add_argument("-n", type=count, default=100, help="how many networks; default: 100")
    add_out(parser, "a new folder, or a file for all networks, such as new.safetensors")
    parser.add_argument("--layout", metavar="LAYOUT", help=LAYOUT)
    add_network(parser, required=False)
    add_steps(parser)
    add_seed(parser)


def add_steps(parser: argparse.ArgumentParser) -> None:
    """`--integrate`."""
    parser.add_argument(
        "--integrate",
        metavar="STEPS",
        type=count,
        default=64,
        help="Euler steps from noise to a network, of which fewer are faster; default: 64",
    )


def run(options: argparse.Namespace) -> None:
    """Draw networks and write them."""
    check_new(options.out)
    flow, known, form, said = read_flow(options.flow, options.network)
    format = format_for(options.out, options.format)
    name, stored = layout_for(known, format, options.layout, said.get("layout"))
    weights = draw(flow, form, options.n, options.seed, options.integrate)
    save(weights, options.out, stored, format, name)


def draw(flow: Flow, form: WeightForm, n: int, seed: int, steps: int) -> dict[str, np.ndarray]:
    """`n` stacked networks of a flow, some at a time; raises `UserError` if one is not finite."""
    keys, size = jax.random.split(jax.random.key(seed), n), min(n, CHUNK)
    parts = [
        jax.tree.map(np.asarray, _some(flow, form, Integrator(steps), rows_from(keys, start, size)))
        for start in track("sampling")(range(0, n, size))
    ]
    weights = {a: np.concatenate([part[a] for part in parts])[:n] for a in parts[0]}
    finite = np.all([np.isfinite(a).reshape(n, -1).all(1) for a in weights.values()], 0)
    if not finite.all():
        raise UserError(
            f"{n - finite.sum()} of {n} networks have NaN or infinite weights; take more steps by "
            "--integrate, or learn the flow for longer"
        )
    return weights


@eqx.filter_jit
def _some(flow: Flow, form: Any, how: Integrator, keys: Key[Array, " k"]) -> Weights:
    return jax.vmap(lambda key: form.decode(flow.sample(key, how)))(keys)
