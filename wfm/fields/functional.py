"""From an NNX module to a pure function of its parameters."""

from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import PyTree


def functional(module: nnx.Module) -> tuple[Callable[[PyTree], Callable[..., Any]], PyTree]:
    """Split a field once: `bind, parameters`, where `bind(parameters)` is the field `(t, x)`."""
    definition, parameters = nnx.split(module)

    def bind(parameters: PyTree) -> Callable[..., Any]:
        return lambda t, x: nnx.merge(definition, parameters)(t, x)

    return bind, parameters
