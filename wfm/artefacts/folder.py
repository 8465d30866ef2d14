"""Folders with a JSON file and its arrays, written completely or not at all, checked when read."""

import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from wfm.artefacts.encoding import Classes, decode, encode
from wfm.atomic import replacing
from wfm.digest import digest
from wfm.errors import UserError
from wfm.jsons import parse, seal, unseal
from wfm.versions import version_of

FORMAT = 1
ARRAYS = "parameters.safetensors"


def write(folder: str | Path, name: str, objects: Mapping[str, Any], classes: Classes) -> None:
    """Write `objects` to a folder: `name`.json, and their arrays in `parameters.safetensors`.

    An older artefact of this name is replaced. Raises `ValueError` for objects that cannot be saved
    and for folders that hold other files.
    """
    folder = Path(folder).absolute()
    encoded = {key: encode(value, key, classes) for key, value in objects.items()}
    arrays = {place: a for _, found in encoded.values() for place, a in found.items()}
    for value, found in encoded.values():
        decode(value, found, classes)  # ensures that it can be read
    content = {
        "versions": {package: version_of(package) for package in ("wfm", "jax")},
        "arrays": digest(arrays),
        "objects": {key: value for key, (value, _) in encoded.items()},
    }
    record = {"format": FORMAT} | seal(content)
    _check_free(folder, {ARRAYS, f"{name}.json"})
    with replacing(folder) as new:
        new.mkdir()
        save_file(arrays, new / ARRAYS)
        (new / f"{name}.json").write_text(json.dumps(record, indent=1))


def read(folder: str | Path, name: str, classes: Classes, key: str) -> Any:
    """What `write` wrote under `key`. Raises `ValueError` if it cannot be read."""
    path = Path(folder) / f"{name}.json"
    record = _record(path, name)
    try:
        content = unseal(record)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    arrays = _arrays(Path(folder) / ARRAYS, content.get("arrays"))
    try:
        return decode(content["objects"][key], arrays, classes)
    except Exception as error:  # constructors of any class, called with anything
        reason = str(error).partition("\n")[0]
        raise UserError(f"{folder} cannot be rebuilt: {reason or type(error).__name__}") from error


def _record(path: Path, name: str) -> dict[str, Any]:
    """The JSON of the file, if its format can be read."""
    if not path.is_file():
        raise UserError(f"there is no saved {name} in {path.parent}: {path.name} is missing")
    try:
        record = parse(path.read_bytes())
        if (number := operator.index(record["format"])) < 1:
            raise UserError("the first format is 1")
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged: it is not the JSON that was saved") from None
    if number > FORMAT:
        raise UserError(
            f"{path} has format {number}, and this version of wfm reads none beyond {FORMAT}; "
            "install a newer one"
        )
    return record


def _arrays(path: Path, expected: Any) -> dict[str, np.ndarray]:
    """The arrays, if they are the ones that were saved."""
    if not path.is_file():
        raise UserError(f"{path} is missing; copy the folder as a whole")
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged: it cannot be read ({error})") from error
    if digest(arrays) != expected:
        raise UserError(f"{path} is damaged: it does not hold the arrays that were saved")
    return arrays


def _check_free(folder: Path, ours: set[str]) -> None:
    """Raise `ValueError` unless the folder is free or holds an artefact that may be replaced."""
    if folder.is_file():
        raise UserError(f"{folder} is a file where a folder is to be; choose another name")
    others = sorted({path.name for path in folder.glob("*")} - ours)
    if others:
        raise UserError(
            f"{folder} holds other files, such as {others[0]}, which saving would remove; choose a "
            "folder of its own"
        )
