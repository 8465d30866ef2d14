"""Weights on disk: safetensors files, read without executing anything."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wfm.atomic import replacing
from wfm.errors import MissingFile, UserError


def save_weights(
    path: str | Path,
    arrays: Mapping[str, jax.Array | np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays (one network, or many stacked) to a safetensors file, atomically."""
    contiguous = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    with replacing(path) as partial:
        save_file(contiguous, partial, dict(metadata or {}))


def load_weights(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Named arrays and metadata of a safetensors file.

    Raises `MissingFile`, or `UserError` for a file that is not safetensors.
    `WeightSpec.check` checks that the arrays fit a network.
    """
    if not Path(path).is_file():
        raise MissingFile(f"no weights at {path}; check the path")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({error}); write it with `save_weights`"
        ) from error
