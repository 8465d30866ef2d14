"""Activation functions by name, and the rescalings of a neuron that each allows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from wfm.errors import UserError
from wfm.weights.scaling import NO_SCALING, PositiveScaling, Scaling, SignScaling

Activation = Callable[[Array], Array]

ACTIVATIONS: dict[str, tuple[Activation, Scaling]] = {
    "relu": (jax.nn.relu, PositiveScaling(rectifies=True)),
    "leaky_relu": (jax.nn.leaky_relu, PositiveScaling()),
    "tanh": (jnp.tanh, SignScaling()),
    "gelu": (jax.nn.gelu, NO_SCALING),
}
"""Activations by name, each with the rescalings of a neuron that it allows."""


def activation_named(name: str) -> tuple[Activation, Scaling]:
    """The entry of `ACTIVATIONS`. Raises `UserError` for a name that is not there."""
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
