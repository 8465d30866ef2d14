"""Trained flows on disk."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wfm import artefacts
from wfm.errors import UserError
from wfm.flows.flow import CLASSES, NAME, Flow


def load_flow(folder: str | Path) -> Flow:
    """The flow that `Flow.save` wrote.

    Of the names in the files, only constructors of public classes of `wfm` are executed. Raises
    `ValueError` if files are missing, damaged, of a newer format, or name unknown classes.
    """
    flow = artefacts.read(folder, NAME, CLASSES, "flow")
    if not isinstance(flow, Flow):
        raise UserError(f"{folder} holds no flow but a {type(flow).__name__}; check the path")
    return jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, flow)


def about(folder: str | Path) -> dict[str, Any]:
    """What `Flow.save` stored as `about`, with numpy arrays."""
    return artefacts.read(folder, NAME, CLASSES, "about")
