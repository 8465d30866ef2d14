"""The precision of computations with weights."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from wfm.errors import UserError
from wfm.weights.spec import Weights


def in_working_precision(weights: Mapping[str, Any]) -> Weights:
    """Weights as arrays of float32, or of float64 if they have it and JAX allows it.

    Norms in bfloat16 are off by 3·10⁻³. Raises `UserError` for arrays that are not floating-point
    numbers.
    """
    arrays = {name: jnp.asarray(a) for name, a in weights.items()}
    for name, a in arrays.items():
        if not jnp.issubdtype(a.dtype, jnp.floating):
            raise UserError(
                f"{name!r} holds {a.dtype}, and weights are floating-point numbers; "
                "give the weights as they were trained"
            )
    return {name: a.astype(jnp.promote_types(a.dtype, jnp.float32)) for name, a in arrays.items()}
