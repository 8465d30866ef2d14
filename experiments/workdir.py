"""The folder of a run: its config, metrics, times and results."""

import fcntl
import json
import os
import platform
import resource
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from experiments.command import Config, UsageError, differences
from wfm.training import MetricsLog

PACKAGES = ("wfm", "jax", "jaxlib", "equinox", "flax", "optax", "diffrax", "numpy", "scikit-learn")
FOLDERS = ("checkpoints", "zoo", "figures", "trajectories")
FILES = ("config.json", "results.json", "metrics.jsonl", "samples.safetensors", "report.html")
OF_RESULTS = {"seconds", "peak_rss_mb", "versions"}
DAMAGED = "is damaged; delete it to have it made again, or choose another --workdir"


class Workdir:
    """A run's folder; opening it with another config than it was made with is refused.

    So is a folder that cannot be a run's, or that another process is writing to.
    """

    def __init__(self, path: str | Path, config: Config):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.path)
            self._open(json.dumps(config.to_dict(), indent=2, sort_keys=True, default=list))
        except OSError as error:
            raise UsageError(
                f"{path} cannot be the folder of a run ({error.strerror}); choose another --workdir"
            ) from None
        self.metrics = MetricsLog(self.path / "metrics.jsonl")

    def _open(self, config: str) -> None:
        for name in FOLDERS:
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise UsageError(
                    f"{self.path / name} is a file where the run keeps a folder; move it away"
                )
        for name in FILES:
            if (self.path / name).is_dir():
                raise UsageError(
                    f"{self.path / name} is a folder where the run keeps a file; move it away"
                )
        file = self.path / "config.json"
        old, new = read_json(file), json.loads(config)
        if old is None:
            _write(file, config + "\n")
        elif old != new:
            keys = ", ".join(sorted(differences(old, new)))
            raise UsageError(
                f"{self.path} holds a run with another config (different: {keys}); "
                "choose another --workdir or delete it"
            )
        self.results()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside towards the stage `name`, over interrupted runs too."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.metrics.write(stage=name, seconds=round(time.perf_counter() - start, 3))

    def seconds(self) -> dict[str, float]:
        """Seconds spent in each stage, and in `total`."""
        stages: dict[str, float] = {}
        for record in self.metrics.read():
            if "stage" in record:
                stages[record["stage"]] = stages.get(record["stage"], 0) + record["seconds"]
        stages["total"] = sum(stages.values())
        return {name: round(seconds, 2) for name, seconds in stages.items()}

    def results(self, *shown: str) -> dict[str, Any] | None:
        """What a finished run found, if the files that it is `shown` in are there, too."""
        found = read_json(self.path / "results.json")
        if found is not None and not found.keys() >= OF_RESULTS:
            raise UsageError(f"{self.path / 'results.json'} {DAMAGED}")
        return found if all((self.path / name).exists() for name in shown) else None

    def finish(
        self,
        results: dict[str, Any],
        show: Callable[[dict[str, Any]], None] = lambda results: None,
    ) -> dict[str, Any]:
        """Write the results, with times, memory, machine and versions.

        Before that `show` gets them, so that whoever finds results finds what shows them.
        """
        results = results | {
            "seconds": self.seconds(),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "hardware": f"{os.cpu_count()} {platform.machine()} cores, {_device()}",
            "versions": {name: version(name) for name in PACKAGES},
        }
        show(results)
        _write(self.path / "results.json", json.dumps(results, indent=2) + "\n")
        return results


def read_json(file: Path) -> dict[str, Any] | None:
    """What a file of a run holds, or nothing where there is no file."""
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_bytes())
    except ValueError:  # no JSON, or no text
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{file} {DAMAGED}")
    return found


class Lock:
    """Keeps other processes from writing to a folder; the kernel drops it when this one dies.

    One process may lock a folder often; it is free again once nothing holds its lock.
    """

    def __init__(self, folder: Path):
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(file, 200).decode(errors="replace").strip() or "another process"
            raise UsageError(
                f"{owner} is writing to {folder}; wait for it, or choose another --workdir"
            ) from None
        except OSError:  # a file system without locks
            return
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {platform.node()}".encode())


_held: weakref.WeakValueDictionary[Path, Lock] = weakref.WeakValueDictionary()


def _lock(folder: Path) -> Lock | None:
    """The lock of a folder; of a run of several processes the first one locks for all."""
    if jax.distributed.is_initialized() and jax.process_index():
        return None
    place = folder.resolve()
    lock = _held.get(place) or Lock(folder)
    _held[place] = lock
    return lock


def _write(path: Path, text: str) -> None:
    """Write as a whole or not at all, wherever the process is killed."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def _device() -> str:
    return jax.devices()[0].device_kind
