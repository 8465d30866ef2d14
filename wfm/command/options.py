"""Options that several commands have, and networks read by them."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax

from wfm.command.networks import KINDS, Network, layout, network
from wfm.command.progress import track
from wfm.errors import UserError
from wfm.io import FORMATS, load_networks
from wfm.weights.layout import Layout
from wfm.zoo import WeightSet

OWN = "own"
INPUTS = 8  # random ones, on which labels are verified
LARGEST_SEED = 2**32 - 1  # JAX silently drops the upper bits of larger ones
NETWORK = (
    "what the networks are: a name with sizes, as in mlp:784,10,10, lenet5, resnet:depth=8 or "
    f"vit:patch=4 ({', '.join(KINDS)}), or module:function or path/file.py:function, whose "
    "(apply, params, example) goes through wfm.trace; its files have the names of params"
)
LAYOUT = (
    "how files store networks: own (the names and axes of the network), torch, "
    "torch:dense1=0,dense2=2 (which says what the file calls modules), or small_cnn_zoo"
)


def add_network(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--network`."""
    parser.add_argument("--network", metavar="NETWORK", required=required, help=NETWORK)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How files are read."""
    parser.add_argument("--layout", metavar="LAYOUT", help=f"{LAYOUT}; default: {OWN}")
    parser.add_argument("--key", help="the part of each file that is the network, such as ema")
    parser.add_argument("--flat", help="the array that holds networks as vectors")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        help="a pattern of names that are no weights, such as *.mask; may be repeated",
    )


def add_skip_bad(parser: argparse.ArgumentParser) -> None:
    """`--skip-bad`."""
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out files that cannot be used"
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """`--seed`."""
    parser.add_argument(
        "--seed", type=_seed, default=0, help="another number, other draws; default: 0"
    )


def _seed(text: str) -> int:
    if not (text.isdecimal() and int(text) <= LARGEST_SEED):
        raise argparse.ArgumentTypeError(f"must be a whole number up to {LARGEST_SEED}")
    return int(text)


def count(text: str) -> int:
    """A whole number above 0, for `type=`."""
    if not (text.isdecimal() and 0 < int(text) < 2**31):
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def add_out(parser: argparse.ArgumentParser, what: str) -> None:
    """`--out`, and `--format`."""
    parser.add_argument("--out", required=True, type=Path, help=what)
    add_format(parser)


def add_format(parser: argparse.ArgumentParser) -> None:
    """`--format`."""
    names = [name for name, each in FORMATS.items() if each.write]
    parser.add_argument(
        "--format", choices=names, help="of the files; default: as the suffix says, or torch"
    )


class Zoo(NamedTuple):
    """Networks that were read, what they are, and how they were stored."""

    networks: WeightSet
    network: Network
    layout: Layout


def read_zoo(path: str, options: Any, given: Network | None = None) -> Zoo:
    """The networks at a path, whose labels are verified on random inputs."""
    known = network(options.network) if given is None else given
    stored = layout(options.layout or OWN, known)
    inputs = jax.random.normal(jax.random.key(0), (INPUTS, *known.input_shape))
    try:
        networks = load_networks(
            path,
            known.spec,
            stored,
            inputs,
            skip_bad=options.skip_bad,
            key=options.key,
            flat=options.flat,
            ignore=options.ignore,
            track=track("reading"),
        )
    except UserError as error:
        raise UserError(in_words(str(error))) from error
    return Zoo(networks, known, stored)


def in_words(message: str) -> str:
    """What to do, as it is done here and not in Python."""
    for python, here in SAID.items():
        message = message.replace(python, here)
    return message


SAID = {
    "`skip_bad=True`": "--skip-bad",
    "by `examine`": "by `wfm inspect`",
    "the network and `layout`": "--network and --layout",
    "by `key`": "by --key",
    "by `flat`": "by --flat",
    "choose another folder": "choose another --out",
    "`load_networks` and `examine` read folders": "give it as the path",
}


def check_new(path: Path) -> None:
    """Raise `UserError` if a place for results is taken, before any work begins."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(f"{path} is there and not empty; choose a new place")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{above} is a file, so that {path} cannot be made; choose another place")
