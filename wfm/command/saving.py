"""Networks written to a folder, or to one file, as its suffix says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wfm.command.networks import Network, layout
from wfm.io import FORMATS, save_networks
from wfm.weights.layout import Layout
from wfm.weights.networks.layouts import HasTorchLayout
from wfm.zoo import WeightSet

SUFFIXES = {each.suffix: name for name, each in FORMATS.items() if each.write}
SUFFIXES |= {".pth": "torch", ".bin": "torch", ".hdf5": "hdf5"}


def format_for(path: Path, given: str | None) -> str:
    """The format of what is written: as given, as the suffix says, or PyTorch's."""
    return given or SUFFIXES.get(path.suffix, "torch")


def layout_for(known: Network, format: str, *said: Any) -> tuple[str, Layout]:
    """The first layout that is said; else PyTorch's in files of PyTorch, if the network has one."""
    usual = "torch" if format == "torch" and _has_torch_layout(known) else "own"
    name = str(next(filter(None, said), usual))
    return name, layout(name, known)


def _has_torch_layout(known: Network) -> bool:
    return isinstance(known.spec.activations, HasTorchLayout)


def save(
    networks: WeightSet | Mapping[str, Any], path: Path, stored: Layout, format: str, name: str
) -> None:
    """Write stacked networks to a folder, or to one file if the path has the suffix of one."""
    stacked = path.suffix in SUFFIXES
    save_networks(networks, path, stored, format, stacked=stacked)
    weights = networks.weights if isinstance(networks, WeightSet) else networks
    n = len(next(iter(weights.values())))
    what = "in one file" if stacked else "a file each"
    print(f"{n} networks, {what} ({format}, layout {name}): {path}")
