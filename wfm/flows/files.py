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

    Nothing that the files name is executed but the constructors of public classes of `wfm`. Raises
    `ValueError` for files that are missing, damaged, of a newer format or of unknown classes.
    """
    flow = artefacts.read(folder, NAME, CLASSES, "flow")
    if not isinstance(flow, Flow):
        raise UserError(f"{folder} holds no flow but a {type(flow).__name__}; check the path")
    return jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, flow)


def about(folder: str | Path) -> dict[str, Any]:
    """What was said `about` the flow in `Flow.save`; its arrays are those of numpy."""
    return artefacts.read(folder, NAME, CLASSES, "about")
