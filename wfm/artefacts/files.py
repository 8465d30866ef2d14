"""Artefacts: a JSON file and its arrays, in a folder or a zip file.

They are written completely or not at all, and checked when they are read.
"""

import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from wfm.artefacts.archive import pack, unpack
from wfm.artefacts.encoding import Classes, decode, encode
from wfm.atomic import replacing
from wfm.digest import digest
from wfm.downloads import download_artefact
from wfm.errors import MissingFile, UserError
from wfm.jsons import newer_format, parse, seal, unseal
from wfm.versions import version_of

FORMAT = 1
ARRAYS = "parameters.safetensors"
ARCHIVE = ".zip"


def write(path: str | Path, name: str, objects: Mapping[str, Any], classes: Classes) -> None:
    """Write `objects` to `name`.json, and their arrays to `parameters.safetensors`.

    Both are in a folder, or in one file if `path` ends in `.zip`. An older artefact of this name is
    replaced. Raises `ValueError` for objects that cannot be saved and for places that hold
    something else.
    """
    path = Path(path).absolute()
    encoded = {key: encode(value, key, classes) for key, value in objects.items()}
    arrays = {place: a for _, found in encoded.values() for place, a in found.items()}
    for value, found in encoded.values():
        decode(value, found, classes)  # ensures that it can be read
    content = {
        "versions": {package: version_of(package) for package in ("wfm", "jax")},
        "arrays": digest(arrays),
        "objects": {key: value for key, (value, _) in encoded.items()},
    }
    text = json.dumps({"format": FORMAT} | seal(content), indent=1)
    _check_free(path, _names(name))
    files = {f"{name}.json": text.encode(), ARRAYS: save(arrays)}
    with replacing(path) as new:
        _write(new, files)


def _write(new: Path, files: Mapping[str, bytes]) -> None:
    if new.suffix == ARCHIVE:
        pack(new, files)
        return
    new.mkdir()
    for name, content in files.items():
        (new / name).write_bytes(content)


def read(source: str | Path, name: str, classes: Classes, key: str) -> Any:
    """What `write` wrote under `key`, to a folder or file, or to `https://…#sha256=HEX`.

    Raises `ValueError` if it cannot be read.
    """
    place = download_artefact(str(source)) if "://" in str(source) else Path(source)
    files = _read(place, _names(name))
    path = place / f"{name}.json"
    record = _record(files, path, name)
    try:
        content = unseal(record)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    arrays = _arrays(files, place / ARRAYS, content.get("arrays"))
    try:
        return decode(content["objects"][key], arrays, classes)
    except Exception as error:  # constructors of any class, called with anything
        reason = str(error).partition("\n")[0]
        raise UserError(f"{place} cannot be rebuilt: {reason or type(error).__name__}") from error


def _names(name: str) -> set[str]:
    return {f"{name}.json", ARRAYS}


def _read(place: Path, names: set[str]) -> dict[str, bytes]:
    """The files of an artefact that are there."""
    if place.is_file():
        return unpack(place, names)
    if place.suffix == ARCHIVE and not place.exists():
        raise MissingFile(f"there is no {place}; check the path")
    return {name: (place / name).read_bytes() for name in names if (place / name).is_file()}


def _record(files: Mapping[str, bytes], path: Path, name: str) -> dict[str, Any]:
    """The JSON of the artefact, if its format can be read."""
    if path.name not in files:
        raise UserError(
            f"there is no saved {name} in {path.parent}: {path.name} is missing; check the path"
        )
    try:
        record = parse(files[path.name])
        if (number := operator.index(record["format"])) < 1:
            raise UserError("the first format is 1")
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged: it is not the JSON that was saved") from None
    if number > FORMAT:
        raise newer_format(path, number, FORMAT)
    return record


def _arrays(files: Mapping[str, bytes], path: Path, expected: Any) -> dict[str, np.ndarray]:
    """The arrays, if they are the ones that were saved."""
    if path.name not in files:
        raise UserError(f"{path} is missing; copy the artefact as a whole")
    try:
        arrays = load(files[path.name])
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: it cannot be read ({error})") from error
    if digest(arrays) != expected:
        raise UserError(f"{path} is damaged: it does not hold the arrays that were saved")
    return arrays


def _check_free(path: Path, ours: set[str]) -> None:
    """Raise `ValueError` unless the place is free or holds an artefact that may be replaced."""
    if path.suffix == ARCHIVE:
        if path.is_dir():
            raise UserError(f"{path} is a folder where a file is to be; choose another name")
        if path.exists():
            unpack(path, ours)  # refuses what is no artefact
        return
    if path.is_file():
        raise UserError(f"{path} is a file where a folder is to be; choose another name")
    others = sorted({found.name for found in path.glob("*")} - ours)
    if others:
        raise UserError(
            f"{path} holds other files, such as {others[0]}, which saving would remove; choose a "
            "folder of its own"
        )
