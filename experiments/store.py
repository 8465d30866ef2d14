"""Outputs of stages, each kept under a hash of all that it reads: made once, then found."""

import datetime
import fcntl
import hashlib
import json
import math
import os
import platform
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from wfm.atomic import replacing, sweep, writing
from wfm.devices import most
from wfm.errors import UserError
from wfm.jsons import parse, seal, unseal
from wfm.versions import version_of

PACKAGES = ("wfm", "jax", "jaxlib", "equinox", "flax", "optax", "diffrax", "numpy", "scikit-learn")
ABOUT = "entry.json"
SPENT = "seconds"  # file with the seconds of earlier, interrupted attempts
BLOCK = 2**20
Reads = Mapping[str, Any]


class Store:
    """A folder of entries `STAGE/HASH/`, one per output.

    Several processes may use one store. An entry is complete or absent. The process that makes it
    holds a lock, and others wait. What a killed process has begun stays, and the next process that
    makes the entry continues from it.
    """

    def __init__(self, folder: str | Path, command: str = ""):
        self.folder, self.command = Path(folder), command
        self._sound: set[Path] = set()  # entries whose files match their digests
        self._inner = 0.0  # seconds spent on entries made within another

    def open(self) -> None:
        """Make the folder; raises `UserError` if that is impossible."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be a store ({error.strerror}); choose another --store"
            ) from None

    def get(
        self, stage: str, reads: Reads, make: Callable[[Path], None], scratch: str = "scratch"
    ) -> Path:
        """The folder of the output of `stage`; `make` fills it once for given `reads`.

        `make` gets the folder as an interrupted attempt left it. The finished entry lacks what is
        named `scratch` in it, which only helps to go on. An entry whose files have changed is
        named, set aside, and made again.
        """
        done = self.place(stage, reads)
        if not self._is_sound(done):
            with writing(done), _lock(done):
                if not self._is_sound(done):
                    if done.is_dir():
                        _set_aside(done)
                    self._make(stage, reads, make, scratch, done)
        return done

    def place(self, stage: str, reads: Reads) -> Path:
        """The folder of an output, whether it exists or not."""
        everything = {"wfm": version_of("wfm"), "reads": reads}
        text = json.dumps(everything, sort_keys=True, default=_plain)
        return self.folder / stage / hashlib.sha256(text.encode()).hexdigest()[:16]

    def _make(
        self, stage: str, reads: Reads, make: Callable[[Path], None], scratch: str, done: Path
    ) -> None:
        begun = done.with_name(f"{done.name}.begun")
        begun.mkdir(parents=True, exist_ok=True)
        sweep(begun)
        if most(_damaged(begun) is not None):  # else it was killed after all was made
            with self._counted(begun / SPENT):
                make(begun)
            if _leads():
                self._describe(stage, reads, begun, {scratch, SPENT})
        if _leads():
            # Nothing is removed before the entry is complete: a kill here costs nothing.
            shutil.rmtree(begun / scratch, ignore_errors=True)
            (begun / SPENT).unlink(missing_ok=True)
            begun.rename(done)
        _together(done.name)
        self._sound.add(done)

    def _describe(self, stage: str, reads: Reads, begun: Path, temporary: set[str]) -> None:
        """Write how the entry was made, and the digests of what is to stay; it is complete then."""
        about = {
            "stage": stage,
            "reads": reads,
            "seconds": round(_spent(begun / SPENT), 3),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "source": source(self.command),
            "files": _digests(begun, temporary),
        }
        plain = json.loads(json.dumps(about, default=_plain))
        with replacing(begun / ABOUT) as partial:
            partial.write_text(json.dumps(seal(plain), indent=1) + "\n")

    @contextmanager
    def _counted(self, file: Path) -> Iterator[None]:
        """Add the seconds inside to those of a file, even if the work is interrupted.

        Time spent on entries that this one needs counts only for them.
        """
        outer, self._inner, start = self._inner, 0.0, time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with suppress(OSError), replacing(file) as partial:  # what stops the work matters more
                partial.write_text(str(_spent(file) + spent - self._inner))
            self._inner = outer + spent

    def _is_sound(self, done: Path) -> bool:
        """Whether an entry exists and its files are those that were written."""
        if done not in self._sound and done.is_dir() and not _damaged(done):
            self._sound.add(done)
            _drop_lock(done)
        return done in self._sound


def _damaged(done: Path) -> str | None:
    """The name of a file of an entry that was changed, or is missing, if there is one."""
    try:
        files = about(done)["files"].items()
        return next((name for name, d in files if _digest(done / name) != d), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ABOUT


def _set_aside(done: Path) -> None:
    """Warn of a damaged entry, and keep it beside its place."""
    warnings.warn(
        f"{done / str(_damaged(done))} is damaged; it is set aside and made again", stacklevel=5
    )
    aside = done.with_name(f"{done.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    done.rename(aside)


def about(entry: Path) -> dict[str, Any]:
    """How an entry was made: `stage`, `reads`, `seconds`, `peak_mb`, `source`."""
    found = parse((entry / ABOUT).read_bytes())
    return found if "stage" in found else unseal(found)  # the first entries were not sealed


def source(command: str) -> dict[str, Any]:
    """The fields of a `Source`: where figures of this process come from."""
    return {
        "command": command,
        "hardware": f"{os.cpu_count()} {platform.machine()} cores, {jax.devices()[0].device_kind}",
        "date": str(datetime.date.today()),
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def path_digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    if path.is_file():
        return file_digest(path)
    text = json.dumps(_digests(path, set()))
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


def _digests(folder: Path, temporary: set[str]) -> dict[str, str]:
    files = (p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p): file_digest(folder / p) for p in files if p.parts[0] not in temporary}


def _spent(file: Path) -> float:
    """The seconds in a file; none if it is missing or damaged."""
    try:
        spent = float(file.read_text())
    except (OSError, ValueError):
        return 0.0
    return spent if 0 <= spent < math.inf else 0.0


def _plain(value: Any) -> Any:
    """Values that JSON cannot hold: tuples come here as they are, configs as mappings."""
    return value.to_dict() if hasattr(value, "to_dict") else list(value)


@contextmanager
def _lock(done: Path) -> Iterator[None]:
    """A lock held by one process at a time; the kernel drops it when the process dies."""
    if not _leads():
        yield
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    path = _lock_file(done)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(200).strip() or "another process"
            print(f"Waiting for {owner}, which makes {done}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # the file system has no locks
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield
        # A waiting process gets the lock of an unlinked file, and finds the entry.
        path.unlink(missing_ok=True)


def _lock_file(done: Path) -> Path:
    return done.with_name(f"{done.name}.lock")


def _drop_lock(done: Path) -> None:
    """Remove the lock of a finished entry that a process killed at its very end has left."""
    with suppress(OSError), _lock_file(done).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _lock_file(done).unlink()


def _leads() -> bool:
    """Whether this process writes for all processes of the run."""
    return not (jax.distributed.is_initialized() and jax.process_index())


def _together(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
