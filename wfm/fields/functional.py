"""From an NNX module to a pure function of its parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
from flax import nnx
from jaxtyping import Array, Float, PyTree

from wfm.manifolds import Point


class Bound(eqx.Module):
    """The field `(t, x)` that a module is at given parameters, which are the leaves of this pytree.

    So transformations take it as it is: `jax.grad` reaches the parameters, and `jax.jit` compiles
    one program for all their values. Modules of one architecture have equal `definition`s.
    """

    definition: nnx.GraphDef = eqx.field(static=True)
    parameters: PyTree

    def __call__(self, t: Float[Array, ""], x: Point) -> Point:
        return nnx.merge(self.definition, self.parameters)(t, x)


def functional(module: nnx.Module) -> tuple[Callable[[PyTree], Bound], PyTree]:
    """Split a field once: `bind, parameters`, where `bind(parameters)` is the field `(t, x)`."""
    definition, parameters = nnx.split(module)
    bind: Any = partial(Bound, definition)
    return bind, parameters
