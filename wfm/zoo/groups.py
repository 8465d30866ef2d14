"""Networks trained one group at a time, with finished groups kept on disk."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from wfm.batching import in_chunks
from wfm.digest import digest
from wfm.errors import UserError
from wfm.weights import Weights, load_weights, save_weights

# Maps a group's name, initial weights and keys to snapshots: arrays (snapshot, network, …).
Train = Callable[[str, Weights, Key[Array, " networks"]], Weights]


def in_groups(
    train: Train,
    initial: Weights,
    keys: Key[Array, " networks"],
    at_once: int,
    report: Callable[[int], None],
) -> Weights:
    """The snapshots of all networks, trained in groups of equal size.

    The last group is padded with copies of its last network, so that one compilation serves all.
    """
    n = len(keys)
    size = -(-n // -(-n // at_once))  # as few groups as needed, each as small as possible

    def group(stacked: tuple[Array, Weights, Key[Array, " networks"]]) -> Weights:
        rows, initial, keys = stacked
        start = int(rows[0])
        snapshots = train(f"{start:06}-{start + size - 1:06}", initial, keys)
        report(min(start + size, n))
        return snapshots

    return in_chunks(group, (jnp.arange(n), initial, keys), size, out_axis=1)


def kept_in(folder: Path, train: Train, about: Any) -> Train:
    """As `train`, but reads groups that the folder holds and writes those that it lacks.

    `about`: arrays and numbers, besides weights and keys, that the training depends on.
    """

    def trained(name: str, initial: Weights, keys: Key[Array, " networks"]) -> Weights:
        file = folder / f"{name}.safetensors"
        origin = digest((initial, jax.random.key_data(keys), about))
        snapshots = _read(file, origin) if file.exists() else None
        if snapshots is None:
            snapshots = train(name, initial, keys)
            save_weights(file, snapshots, {"origin": origin, "digest": _seal(snapshots, origin)})
        return snapshots

    return trained


def _read(file: Path, origin: str) -> Weights | None:
    """A finished group, or `None`, with a warning, if the file is damaged."""
    try:
        arrays, marks = load_weights(file)
    except UserError:
        arrays, marks = {}, {}
    if marks.get("digest") != _seal(arrays, marks.get("origin", "")):
        warnings.warn(f"{file} is damaged; its networks are trained again", stacklevel=5)
        return None
    if marks["origin"] != origin:
        raise UserError(
            f"{file.parent} holds networks trained from other weights, keys, data or by another "
            "schedule; choose another folder or delete it"
        )
    return {name: jnp.asarray(a) for name, a in arrays.items()}


def _seal(snapshots: Weights | dict[str, np.ndarray], origin: str) -> str:
    """A digest that reveals changes to snapshots or to their stated origin."""
    return digest((snapshots, [ord(c) for c in origin]))
