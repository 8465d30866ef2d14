"""Files of NumPy: `.npz`, and arrays one after the other, as Equinox writes leaves."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError
from wfm.io.nested import listed

NOT_NUMPYS = np.dtype("V2")  # how NumPy writes bfloat16, the only such type of two bytes


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file."""
    with _without_objects(), np.load(path, allow_pickle=False) as file:
        return {name: _typed(file[name]) for name in file.files}


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An `.npz` file."""
    with zipfile.ZipFile(path, "w") as archive:  # `savez` takes no array that is named "file"
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, numpys_own(array), allow_pickle=False)


def numpys_own(array: np.ndarray) -> np.ndarray:
    """An array of a type that NumPy itself has: bfloat16 becomes float32, exactly."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def read_leaves(path: Path) -> list[np.ndarray]:
    """The leaves that `eqx.tree_serialise_leaves` wrote, in their order: they have no names."""
    found = []
    with _without_objects(), path.open("rb") as file:
        while file.tell() < path.stat().st_size:
            found.append(_typed(np.lib.format.read_array(file, allow_pickle=False)))
    return found


@contextmanager
def _without_objects() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UserError(
            "it holds Python objects, and reading those can run code; save arrays of numbers alone"
        ) from None


def _typed(array: np.ndarray) -> np.ndarray:
    if array.dtype == NOT_NUMPYS:
        return array.view(np.dtype(jnp.bfloat16))
    if array.dtype.kind in "OV":
        raise UserError("it holds what is no array of numbers; save arrays alone")
    return array


def named_as(like: Any, path: Path) -> dict[str, np.ndarray]:
    """The leaves in an Equinox file, by their places in `like`, as in "layers.0.weight".

    `like` is the module that was written, or what `eqx.filter_eval_shape` gives. Raises `UserError`
    if number or shapes differ.
    """
    places = [
        (jax.tree_util.keystr(place, simple=True, separator="."), np.shape(leaf))
        for place, leaf in jax.tree_util.tree_leaves_with_path(like)
        if hasattr(leaf, "shape") or isinstance(leaf, bool | int | float | complex)
    ]
    leaves = read_leaves(path)
    if len(leaves) != len(places):
        raise UserError(f"it holds {len(leaves)} leaves, and `like` has {len(places)}")
    wrong = [n for (n, shape), a in zip(places, leaves, strict=True) if a.shape != shape]
    if wrong:
        raise UserError(f"its leaves have other shapes than those of `like`: {listed(wrong)}")
    return {name: leaf for (name, _), leaf in zip(places, leaves, strict=True)}
