"""Turning an NNX module into a pure function of its parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import ArrayLike, PyTree

from wfm.errors import UserError
from wfm.manifolds import Point


class Constant(nnx.Variable):
    """A vector of a field that training leaves as it is, and that its programs need not know."""

    def numbers(self) -> list[float]:
        """Its entries; raises `UserError` if many fields are stacked in one."""
        if self[...].ndim != 1:
            raise UserError("it is many fields, stacked; save them one by one")
        return self[...].tolist()


class Bound(eqx.Module):
    """The field `(t, x)` of a module at given parameters.

    It is a pytree, and transformations therefore take it as it is: `jax.grad` reaches the
    parameters, and `jax.jit` compiles one program for all their values, and those of `constants`,
    all other variables of the module. Modules of one architecture have equal `definition`s.
    """

    definition: nnx.GraphDef = eqx.field(static=True)
    constants: PyTree
    params: PyTree

    def __call__(self, t: ArrayLike, x: Point) -> Point:
        t = jnp.asarray(t, jnp.result_type(float, t))
        return self._module()(t, x)

    def _module(self) -> Any:
        return nnx.merge(self.definition, self.params, jax.lax.stop_gradient(self.constants))

    def describe(self) -> dict[str, Any]:
        """What the module is made from, and its parameters by their place in it."""
        named = jax.tree_util.tree_leaves_with_path(self.params)
        return {"module": self._module(), "params": {_place(path): a for path, a in named}}

    @classmethod
    def made_from(cls, module: nnx.Module, params: Mapping[str, Any]) -> "Bound":
        """The inverse of `describe`."""
        bind, like = functional(module)
        places = {_place(path): a for path, a in jax.tree_util.tree_leaves_with_path(like)}
        shapes = [{name: a.shape for name, a in part.items()} for part in (places, params)]
        if shapes[0] != shapes[1]:
            raise UserError(f"the parameters are not those of a {type(module).__name__}")
        leaves = [jnp.asarray(params[place]) for place in places]
        return bind(jax.tree.unflatten(jax.tree.structure(like), leaves))


def _place(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def functional(module: nnx.Module) -> tuple[Callable[[PyTree], Bound], PyTree]:
    """Split a field once: `bind, parameters`, where `bind(parameters)` is the field `(t, x)`.

    `bind` is a pytree, whose leaves are the module's constants.
    """
    definition, params, constants = nnx.split(module, nnx.Param, ...)
    return jax.tree_util.Partial(Bound, definition, constants), params
