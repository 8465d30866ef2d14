"""What is in a file, a folder, or a flow: without running any code of it.

Without --network, the arrays that most files have say what is usual, and others, damaged files,
those with NaN, and pickles that would execute code are listed as bad with the reason. With it,
files are read as `wfm learn` reads them, and all that it would refuse is bad; the symmetries of
the network are told too.

  wfm inspect nets
  wfm inspect nets --network mlp:4,8,3 --layout torch
  wfm inspect flow.zip
"""

import argparse
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wfm.command.networks import layout, network
from wfm.command.options import OWN, add_network, add_reading
from wfm.command.progress import track
from wfm.errors import UserError
from wfm.flows import about
from wfm.flows.flow import NAME
from wfm.io import examine


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("path", help="a file, a folder of networks, or a flow")
    add_network(parser, required=False)
    add_reading(parser)


def run(options: argparse.Namespace) -> None:
    """Print what is there; raises `UserError` if nothing can be used."""
    path = Path(options.path)
    if is_flow(path):
        print(_of_flow(path))
        return
    known = network(options.network) if options.network else None
    found = examine(
        path,
        known and known.spec,
        known and layout(options.layout or OWN, known),
        key=options.key,
        flat=options.flat,
        ignore=options.ignore,
        track=track("reading"),
    )
    if not found.count and len(found.bad) == 1:
        raise UserError(f"{path}: {found.bad[0].reason}")
    print(found)
    if known:
        print(f"\n{known.spec.explain()}")
    if not found.count:
        raise UserError(f"none of the {len(found.bad)} files of {path} can be used")


def is_flow(path: Path) -> bool:
    """Whether a flow was saved there, in a folder or as a zip file."""
    file = f"{NAME}.json"
    if path.is_dir():
        return (path / file).is_file()
    try:
        with zipfile.ZipFile(path) as archive:
            return file in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def _of_flow(path: Path) -> str:
    """What `Flow.save` was told of a flow, with arrays by their shapes."""
    lines = [f"{path}: a flow over weights; `wfm sample {path} --out FOLDER` draws networks"]
    for name, value in about(path).items():
        lines += _said(name, value)
    return "\n".join(lines)


def _said(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [line for key, inner in value.items() for line in _said(f"{name}.{key}", inner)]
    return [f"  {name}: {f'{value.dtype} {value.shape}' if hasattr(value, 'shape') else value}"]
