"""Networks that are read together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wfm.io.nested import Named
from wfm.io.networks import Origin, origin


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file, or rows of one. `abouts`: what stands beside it of each of its `count` networks.

    `first`: the number of the first row, if these are rows.
    """

    name: str
    read: Callable[[], Named]
    abouts: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    count: int = 1
    first: int | None = None

    def origins(self, abouts: Sequence[Mapping[str, Any]]) -> list[Origin]:
        """Where the networks in it are from."""
        if self.first is None and len(abouts) == 1:
            return [origin(self.name, abouts[0])]
        first = self.first or 0
        return [origin(f"{self.name} [{first + i}]", about) for i, about in enumerate(abouts)]
