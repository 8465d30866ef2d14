"""Networks that are read together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wfm.io.nested import Named


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file, or rows of one. `abouts`: what stands beside it of each of its `count` networks."""

    name: str
    read: Callable[[], Named]
    abouts: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    count: int = 1
