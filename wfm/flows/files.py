"""Trained flows on disk."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wfm import artefacts
from wfm.errors import UserError
from wfm.flows.flow import CLASSES, NAME, Flow


def load_flow(source: str | Path) -> Flow:
    """The flow that `Flow.save` wrote, from a folder, a zip file, or a zip file at a URL.

    A URL is `https://…/flow.zip#sha256=HEX`, and is downloaded once. Nothing is read whose SHA-256
    is another.

    Of the names in the files, only constructors of public classes of `wfm` are executed. Raises
    `ValueError` if files are missing, damaged, of a newer format, or name unknown classes.
    """
    flow = artefacts.read(source, NAME, CLASSES, "flow")
    if not isinstance(flow, Flow):
        raise UserError(f"{source} holds no flow but a {type(flow).__name__}; check the path")
    return jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, flow)


def about(source: str | Path) -> dict[str, Any]:
    """What `Flow.save` stored as `about`, with numpy arrays; `source` is as in `load_flow`."""
    return artefacts.read(source, NAME, CLASSES, "about")
