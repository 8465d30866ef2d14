"""The folder of a study's run: its config, records, pictures and report."""

import fcntl
import json
import os
import platform
import weakref
from pathlib import Path
from typing import Any

import jax

from experiments.command import differences
from experiments.study import Study
from wfm.atomic import replacing, sweep, writing
from wfm.checks import some
from wfm.errors import UserError
from wfm.jsons import parse

CELLS = "cells"  # the folder with the results of each of them
FILES = ("config.json", "records.json", "report.html")
DAMAGED = "is damaged; delete it to have it made again, or choose another --workdir"


class Workdir:
    """A run's folder; opening it with another config is refused.

    A folder that cannot be a run's, or that another process is writing to, is refused too.
    """

    def __init__(self, path: str | Path, study: Study):
        self.path = Path(path)
        try:
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock = _lock(self.path)
                sweep(self.path, "*")
                sweep(self.path / CELLS)
                self._open({"study": study.name, "base": study.base.to_dict()})
        except UserError:
            raise
        except OSError as error:
            raise UserError(
                f"{path} cannot be the folder of a run ({error.strerror}); choose another --workdir"
            ) from None

    def _open(self, config: dict[str, Any]) -> None:
        if (self.path / CELLS).exists() and not (self.path / CELLS).is_dir():
            raise UserError(
                f"{self.path / CELLS} is a file where the run keeps a folder; move it away"
            )
        for name in FILES:
            if (self.path / name).is_dir():
                raise UserError(
                    f"{self.path / name} is a folder where the run keeps a file; move it away"
                )
        file, text = self.path / "config.json", json.dumps(config, indent=2, default=list)
        old, new = read_json(file), json.loads(text)
        if old is None:
            with replacing(file) as partial:
                partial.write_text(text + "\n")
        elif old != new:
            keys = sorted(key.removeprefix("base.")[:40] for key in differences(old, new))
            raise UserError(
                f"{self.path} holds a run with another config (different: {some(keys, 20)}); "
                "choose another --workdir or delete it"
            )

    def __truediv__(self, name: str) -> Path:
        return self.path / name


def read_json(file: Path) -> dict[str, Any] | None:
    """The content of a run's file, or `None` if there is no file."""
    if not file.exists():
        return None
    try:
        found = parse(file.read_bytes())
    except ValueError:  # not JSON, or not text
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{file} {DAMAGED}")
    return found


class Lock:
    """Keeps other processes from writing to a folder; the kernel drops it when this one dies.

    One process may lock a folder several times; it is free again once nothing holds its lock.
    """

    def __init__(self, folder: Path):
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(file, 200).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"{owner} is writing to {folder}; wait for it, or choose another --workdir"
            ) from None
        except OSError:  # the file system has no locks
            return
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {platform.node()}".encode())


_held: weakref.WeakValueDictionary[Path, Lock] = weakref.WeakValueDictionary()


def _lock(folder: Path) -> Lock | None:
    """The lock of a folder; in a run of several processes, the first locks for all."""
    if jax.distributed.is_initialized() and jax.process_index():
        return None
    place = folder.resolve()
    lock = _held.get(place) or Lock(folder)
    _held[place] = lock
    return lock
