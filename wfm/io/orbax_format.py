"""Folders of orbax: a checkpoint, or a step with its items."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

MARK = "_METADATA"


def items(path: Path) -> list[Path]:
    """The folders of arrays in a checkpoint, or in a step of a `CheckpointManager`."""
    if (path / MARK).is_file():
        return [path]
    return sorted(p.parent for p in path.glob(f"*/{MARK}")) if path.is_dir() else []


def read(path: Path) -> Any:
    """The arrays of a checkpoint; those of a step with several items are below their names."""
    found = {item.name: _restored(item) for item in items(path)}
    return found if len(found) > 1 else next(iter(found.values()))


def _restored(item: Path) -> Any:
    import orbax.checkpoint as ocp  # takes seconds

    handler = ocp.PyTreeCheckpointHandler()
    place: Any = item.absolute()
    try:
        tree: Any = handler.metadata(place)
        plain = ocp.RestoreArgs(restore_type=np.ndarray)  # on no device, whatever wrote it
        how = jax.tree.map(lambda _: plain, getattr(tree, "tree", tree))
        restored = handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=how))
    finally:
        handler.close()
    return restored
