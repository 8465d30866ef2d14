"""Memory of a run: a lower bound before it starts, and of its programs between cells."""

import os
from pathlib import Path

import jax

from experiments.command import Config
from wfm.errors import UserError

BYTES = 4  # per number
STATES = 3  # per network in training: its weights, and Adam's two moments
FIELD_STATES = 4  # the same, plus the running average
MAPS = Path("/proc/self/maps")  # one line each; of Linux
MOST_MAPS = 10_000  # some 2 GB of programs; Linux lets a process have 65,530


def check_memory(needed: dict[str, int]) -> None:
    """Refuse a run that needs more bytes than the machine has; `needed` gives them by name."""
    total, there = sum(needed.values()), machine()
    if total > there:
        largest = max(needed, key=lambda name: needed[name])
        raise UserError(
            f"this run needs at least {total / 1e9:,.0f} GB of memory, most of it for {largest}, "
            f"and the machine has {there / 1e9:,.0f} GB; choose a smaller network or fewer of them"
        )


def least(config: Config, n_weights: int, snapshots: int) -> dict[str, int]:
    """A lower bound on the bytes of each thing that a run of a config holds.

    `snapshots`: the number kept of each network.
    """
    z, field, training, sampling = config.zoo, config.field, config.training, config.sampling
    network = BYTES * n_weights
    at_once = min(z.at_once, z.networks)
    return {
        # Weights as trained, as aligned points, and initial weights.
        "the zoo": network * z.networks * (2 * snapshots + 1),
        f"training {at_once} networks at once": network * at_once * STATES,
        "the vector field": BYTES * field.depth * field.width**2 * FIELD_STATES,
        f"batches of {training.batch_size} networks": 2 * network * training.batch_size,
        f"{sampling.networks} samples": network * sampling.networks,
    }


def machine() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def forget_programs() -> None:
    """Drop compiled programs once they hold so many memory maps that more could not be loaded."""
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
