"""What a measure is."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.records import Figures
from experiments.stages import Run


class Point(NamedTuple):
    """Coordinates, and the work that gives the figures there.

    The work gets a folder for pictures, which the store keeps.
    """

    at: Mapping[str, Any]
    make: Callable[[Path], Figures]


def _nothing(run: Run) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Measure:
    """How a run is measured, and what of it that reads.

    `stage`: the last stage whose output it uses, if any; without one it reads the whole config.
    `settings`: keys of the config that it reads besides. `check` refuses a run before any work.
    """

    points: Callable[[Run], Iterator[Point]]
    stage: str = ""
    settings: tuple[str, ...] = ()
    check: Callable[[Run], None] = _nothing

    def reads(self, run: Run) -> dict[str, Any]:
        """All that the figures depend on, but their coordinates."""
        config = run.config.to_dict()
        if not self.stage:
            return config
        return run.reads[self.stage] | {key: config[key] for key in self.settings}
