"""HDF5 files: data sets by their places, attributes as figures."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wfm.errors import UserError
from wfm.io.nested import nest
from wfm.io.numpy_format import numpys_own

DEFLATION = 1100  # the most that deflation shrinks zeros


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise UserError(
            "it is an HDF5 file, and h5py is not installed; `pip install 'wfm[io]'`"
        ) from None


def read(path: Path) -> dict[str, Any]:
    """Data sets by place, as in "net_3.fc1.weight", and the attributes of groups likewise."""
    found: dict[str, Any] = {}

    def keep(place: str, node: Any) -> None:
        name = place.replace("/", ".")
        if isinstance(node, library.Dataset):
            found[name] = _array(name, node)
        for attribute, value in node.attrs.items():
            found[f"{name}.{attribute}" if name else attribute] = _plain(value)

    library = _h5py()
    with library.File(path, "r") as file:
        keep("", file)
        file.visititems(keep)  # follows no links to other files
    return found


def _plain(value: Any) -> Any:
    """An attribute that is a number or a text; others say nothing of a network."""
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value


def _array(name: str, data: Any) -> Any:
    if data.external or data.is_virtual:
        raise UserError(f"{name!r} is kept in other files; copy it into this one")
    if data.dtype.kind in "OSU" and data.shape == ():
        return _plain(data[()])
    if data.dtype.kind not in "fiubc":
        raise UserError(f"{name!r} holds {data.dtype}, which is no array of numbers")
    if data.nbytes > DEFLATION * data.id.get_storage_size():
        raise UserError(f"{name!r} was never written; write the file again")
    return np.asarray(data[()])


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """One data set for each array, in groups by the dots of their names."""
    nest(arrays)  # refuses what HDF5 cannot nest
    with _h5py().File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name.replace(".", "/"), data=numpys_own(array))
