"""The minutes that a run may take, for machines that are lent by the minute."""

import math
import time

from experiments.command import Config

_START = time.monotonic()


def seconds_left(config: Config) -> float:
    """Until `config.until`, a share of `config.minutes`, since this module was imported.

    Infinite for studies without such keys.
    """
    if "minutes" not in config:
        return math.inf
    return 60 * config.minutes * config.until - (time.monotonic() - _START)
