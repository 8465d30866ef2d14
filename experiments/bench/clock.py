"""Time and memory of work, measured in the same way for every library."""

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

REPEATS = 5


def timed(work: Callable[[], Any], repeats: int = REPEATS) -> dict[str, float]:
    """Seconds of the first call of `work`, and median and range of further calls.

    `work` must return only when it is done.
    """

    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    first, rest = once(), [once() for _ in range(repeats)]
    return {
        "first": first,
        "median": statistics.median(rest),
        "least": min(rest),
        "most": max(rest),
    }


def peak_mb() -> float:
    """The peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
