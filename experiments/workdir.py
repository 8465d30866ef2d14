"""The folder of a run: its config, metrics, times and results."""

import json
import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from experiments.command import Config, UsageError, differences
from wfm.training import MetricsLog

PACKAGES = ("wfm", "jax", "jaxlib", "equinox", "flax", "optax", "diffrax", "numpy", "scikit-learn")


class Workdir:
    """A run's folder; opening it with another config than it was made with is refused."""

    def __init__(self, path: str | Path, config: Config):
        self.path = Path(path)
        text = json.dumps(config.to_dict(), indent=2, sort_keys=True, default=list)
        file = self.path / "config.json"
        if file.exists():
            old, new = json.loads(file.read_text()), json.loads(text)
            if old != new:
                keys = ", ".join(sorted(differences(old, new)))
                raise UsageError(
                    f"{path} holds a run with another config (different: {keys}); "
                    "choose another --workdir or delete it"
                )
        self.path.mkdir(parents=True, exist_ok=True)
        _write(file, text + "\n")
        self.metrics = MetricsLog(self.path / "metrics.jsonl")

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

    def results(self) -> dict[str, Any] | None:
        """What a finished run found."""
        file = self.path / "results.json"
        return json.loads(file.read_text()) if file.exists() else None

    def finish(self, results: dict[str, Any]) -> dict[str, Any]:
        """Write the results, with times, memory, machine and versions."""
        results = results | {
            "seconds": self.seconds(),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "hardware": f"{os.cpu_count()} {platform.machine()} cores, {_device()}",
            "versions": {name: version(name) for name in PACKAGES},
        }
        _write(self.path / "results.json", json.dumps(results, indent=2) + "\n")
        return results


def _write(path: Path, text: str) -> None:
    """Write as a whole or not at all, wherever the process is killed."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def _device() -> str:
    return jax.devices()[0].device_kind
