"""Turning an NNX module into a pure function of its parameters."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import ArrayLike, PyTree

from wfm.errors import UserError
from wfm.manifolds import Point


class Bound(eqx.Module):
    """The field `(t, x)` of a module at given parameters, which are the leaves of this pytree.

    Transformations therefore take it as it is: `jax.grad` reaches the parameters, and `jax.jit`
    compiles one program for all their values. Modules of one architecture have equal `definition`s.
    """

    definition: nnx.GraphDef = eqx.field(static=True)
    params: PyTree

    def __call__(self, t: ArrayLike, x: Point) -> Point:
        t = jnp.asarray(t, jnp.result_type(float, t))
        return nnx.merge(self.definition, self.params)(t, x)

    def describe(self) -> dict[str, Any]:
        """What the module is made from, and its parameters by their place in it."""
        named = jax.tree_util.tree_leaves_with_path(self.params)
        return {
            "module": nnx.merge(self.definition, self.params),
            "params": {_place(path): a for path, a in named},
        }

    @classmethod
    def made_from(cls, module: nnx.Module, params: Mapping[str, Any]) -> "Bound":
        """The inverse of `describe`."""
        definition, like = nnx.split(module)
        places = {_place(path): a for path, a in jax.tree_util.tree_leaves_with_path(like)}
        shapes = [{name: a.shape for name, a in part.items()} for part in (places, params)]
        if shapes[0] != shapes[1]:
            raise UserError(f"the parameters are not those of a {type(module).__name__}")
        leaves = [jnp.asarray(params[place]) for place in places]
        bind: Any = partial(cls, definition)
        return bind(jax.tree.unflatten(jax.tree.structure(like), leaves))


def _place(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def functional(module: nnx.Module) -> tuple[Callable[[PyTree], Bound], PyTree]:
    """Split a field once: `bind, parameters`, where `bind(parameters)` is the field `(t, x)`."""
    definition, params = nnx.split(module)
    bind: Any = partial(Bound, definition)
    return bind, params
