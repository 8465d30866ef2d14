"""The interface of a measure."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.records import Figures
from experiments.stages import Run


class Point(NamedTuple):
    """Coordinates, and the work that gives the figures there.

    The work gets a folder for pictures, which the store keeps. `more`: what it reads in addition to
    what its measure reads.
    """

    at: Mapping[str, Any]
    make: Callable[[Path], Figures]
    more: Any = None

    def reads(self) -> dict[str, Any]:
        """What the figures depend on in addition to what all points of the measure do."""
        return {"at": dict(self.at), "more": self.more}


def _nothing(run: Run) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Measure:
    """How a run is measured, and what the measure reads of it.

    `stage`: the last stage whose output it uses, if any. `settings`: other config keys that it
    reads. Without either it reads the whole config. `check` refuses a run before any work.
    """

    points: Callable[[Run], Iterator[Point]]
    stage: str = ""
    settings: tuple[str, ...] = ()
    check: Callable[[Run], None] = _nothing

    def reads(self, run: Run) -> dict[str, Any]:
        """All that the figures depend on, except their coordinates."""
        config = run.config.to_dict()
        if not self.stage and not self.settings:
            return config
        before = run.reads[self.stage] if self.stage else {}
        return before | {key: config[key] for key in self.settings}
