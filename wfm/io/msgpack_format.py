"""Msgpack files of Flax: what `flax.serialization.to_bytes` gives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization

from wfm.io.nested import nest


def read(path: Path) -> Any:
    """The arrays of nested parameters, as in "params.Dense_0.kernel"."""
    return serialization.msgpack_restore(path.read_bytes())


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Nested parameters, which `flax.serialization.from_bytes` takes."""
    tree: Any = jax.tree.map(lambda a: np.asarray(a, order="C"), nest(arrays))
    path.write_bytes(serialization.msgpack_serialize(tree))
