"""Zoos and flows that runs of the same settings share."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.command import Config, UsageError
from experiments.experiment import of_flow

OF_ZOOS = ("task", "split", "hidden", "activation", "seed", "zoo")  # what a zoo depends on


@contextmanager
def sharing(shared: str | Path, config: Config, folder: Path) -> Iterator[None]:
    """Gives a run in `folder` what others trained with its settings, and them what it trains.

    Where `shared`, the folder for that, has no name, nothing is shared.
    """
    of_zoo = {key: config.to_dict()[key] for key in OF_ZOOS}
    if shared:
        _check(Path(shared))
    parts = {"zoo/zoo.safetensors": of_zoo, "checkpoints": of_flow(config)} if shared else {}
    places = {
        folder / part: Path(shared) / _name(settings) / Path(part).name
        for part, settings in parts.items()
    }
    for own, kept in places.items():
        if kept.exists() and not own.exists():
            _link(kept, own)
    yield
    for own, kept in places.items():
        if not kept.exists():
            _link(own, kept)


def _check(shared: Path) -> None:
    """Before hours of work whose end would fail here."""
    try:
        shared.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{shared} cannot be a shared folder ({error.strerror}); choose another for "
            "config.shared"
        ) from None


def _name(settings: Mapping[str, Any]) -> str:
    """A name for all that some settings describe."""
    text = json.dumps(settings, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _link(old: Path, new: Path) -> None:
    """The same under a second name, whole or not at all: other studies may do so now as well.

    Zoos and states are never changed, and may be large, so that links do.
    """
    new.parent.mkdir(parents=True, exist_ok=True)
    begun = new.with_name(f"{new.name}.{os.getpid()}")
    if old.is_dir():
        shutil.copytree(old, begun, copy_function=_link_file)
    else:
        _link_file(old, begun)
    try:
        begun.rename(new)
    except OSError:  # a folder that another study has made in the meantime
        shutil.rmtree(begun)
    else:
        begun.unlink(missing_ok=True)  # renaming leaves it where the other is the same file


def _link_file(old: str | Path, new: str | Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # another file system
        shutil.copy2(old, new)
