"""Fields, which flows follow."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from wfm.errors import UserError
from wfm.manifolds import Point

Field = Callable[[Any, Point], Point]
"""A vector field: from a time and a point to what the prediction makes a velocity of."""


class Function(eqx.Module):
    """A plain Python function as a pytree without leaves, for use in transformations.

    Its closure is part of the program, so each function is compiled separately.
    """

    function: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def describe(self) -> dict[str, Any]:
        raise UserError("a plain function is code; use a field of wfm.fields, by `functional`")


def as_tree(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` itself if it is a pytree, such as an equinox module, else a `Function`."""
    return Function(call) if jax.tree_util.all_leaves([call]) else call
