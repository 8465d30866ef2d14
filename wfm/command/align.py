"""Networks with their hidden neurons in one order, so that they can be averaged and compared.

Each network is permuted so that its canonical form matches the mean of all best (weight matching,
Ainsworth et al. 2023). What it computes stays the same. Files keep their layout, and their
metrics are written beside them.

  wfm align nets --network mlp:4,8,3 --layout torch --out aligned
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp

from wfm.command.forms import aligned, form_for
from wfm.command.options import (
    OWN,
    add_network,
    add_out,
    add_reading,
    add_skip_bad,
    check_new,
    read_zoo,
)
from wfm.command.saving import format_for, save
from wfm.errors import UserError
from wfm.weights import Weights, permute_all


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("path", help="a file or folder of networks")
    add_network(parser)
    add_reading(parser)
    add_skip_bad(parser)
    add_out(parser, "a new folder, or a file for all networks, such as aligned.safetensors")


def run(options: argparse.Namespace) -> None:
    """Read, permute, write."""
    check_new(options.out)
    zoo = read_zoo(options.path, options)
    spec = zoo.network.spec
    if not spec.permutable:
        raise UserError("this network has no neurons that may be permuted; there is nothing to do")
    found = aligned(form_for(spec, zoo.networks.weights), zoo.networks.weights)
    weights = permute_all(spec, found.permutations, zoo.networks.weights)
    # Initial weights would have to follow another order for each snapshot.
    networks = dataclasses.replace(zoo.networks, weights=weights, initial=None)
    format = format_for(options.out, options.format)
    save(networks, options.out, zoo.layout, format, options.layout or OWN)
    print(f"variance over networks: {_variance(found.before):.4g} before, ", end="")
    print(f"{_variance(found.points):.4g} aligned (summed over the canonical form)")


@jax.jit
def _total(points: Weights) -> jax.Array:
    return sum((a.var(0).sum() for a in points.values()), jnp.zeros(()))


def _variance(points: Weights) -> float:
    return float(_total(points))
