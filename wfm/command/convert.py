"""Networks in another format, or in another layout.

A file or folder of networks becomes a folder with one file for each, and metrics.csv, or one file
with all if B ends in .pt, .safetensors, .npz, .h5 or .msgpack. Without --network, one file is
written with the names and axes that it has.

  wfm convert net.pt net.safetensors
  wfm convert nets zoo.h5 --network mlp:4,8,3 --layout torch
  wfm convert flax_nets torch_nets --network lenet5 --to-layout torch
"""

import argparse
from pathlib import Path

from wfm.command.networks import layout
from wfm.command.options import (
    LAYOUT,
    OWN,
    add_format,
    add_network,
    add_reading,
    add_skip_bad,
    check_new,
    read_zoo,
)
from wfm.command.saving import format_for, save
from wfm.errors import UserError
from wfm.io import read_arrays, write_arrays


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("path", metavar="A", help="a file or folder of networks")
    parser.add_argument("out", metavar="B", type=Path, help="a new file or folder")
    add_network(parser, required=False)
    add_reading(parser)
    parser.add_argument("--to-layout", metavar="LAYOUT", help=f"{LAYOUT}; default: as --layout")
    add_skip_bad(parser)
    add_format(parser)


def run(options: argparse.Namespace) -> None:
    """Read A, write B."""
    check_new(options.out)
    format = format_for(options.out, options.format)
    if options.network:
        zoo = read_zoo(options.path, options)
        name = options.to_layout or options.layout or OWN
        save(zoo.networks, options.out, layout(name, zoo.network), format, name)
        return
    if Path(options.path).is_dir():
        raise UserError(f"{options.path} is a folder; say by --network what its networks are")
    arrays, _ = read_arrays(options.path, options.key)
    write_arrays(options.out, arrays, format)
    print(f"{len(arrays)} arrays ({format}): {options.out}")
