"""A field without structure, on the point as one flat vector."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from wfm.errors import UserError
from wfm.fields.embedding import FREQUENCIES, fourier_features
from wfm.fields.functional import Constant
from wfm.manifolds import Point


class MLPField(nnx.Module):
    """A small fully connected network of time and flattened point, equivariant to nothing.

    `like`: a point, for structure and size. `coordinates`: what the network reads from the flat
    vector, such as cosine and sine if the entries are angles. `unit`: the typical size of the
    entries of each part, a pytree of numbers like a point. Unless the field has `coordinates`,
    every entry also reaches its output through a time-dependent gate, because `width` features
    could not carry all of a longer vector.
    """

    def __init__(
        self,
        like: Point,
        *,
        width: int = 64,
        depth: int = 3,
        coordinates: Callable[[Array], Array] | None = None,
        unit: PyTree[float] | None = None,
        rngs: nnx.Rngs,
    ):
        flat, self.unravel = ravel_pytree(like)
        self.unit = _unit(like, unit)
        self.structure = jax.tree.structure(like)
        self.shapes = tuple((jnp.shape(a), jnp.result_type(a).name) for a in jax.tree.leaves(like))
        self.width, self.depth = width, depth
        self.coordinates = coordinates or _as_they_are
        sizes = [self.coordinates(flat).size + 2 * FREQUENCIES, *[width] * depth, flat.size]
        self.layers = nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in pairwise(sizes)])
        zeros = nnx.initializers.zeros_init()
        gate = partial(nnx.Linear, kernel_init=zeros, rngs=rngs)
        self.gate = None if coordinates else gate(2 * FREQUENCIES, flat.size)

    def __call__(self, t: Float[Array, ""], x: Point) -> Point:
        unit = self.structure.unflatten(self.unit[...])
        unit = jax.tree.map(lambda u, a: u.astype(a.dtype), unit, x)
        flat, _ = ravel_pytree(jax.tree.map(jnp.divide, x, unit))
        time = fourier_features(t)
        h = jnp.concatenate([self.coordinates(flat), time])
        for layer in self.layers[:-1]:
            h = jax.nn.gelu(layer(h))
        out = self.layers[-1](h) + (self.gate(time) * flat if self.gate else 0)
        return jax.tree.map(jnp.multiply, self.unravel(out), unit)

    def describe(self) -> dict[str, Any]:
        """The arguments from which `made_from` makes a field of this kind."""
        if self.coordinates is not _as_they_are:
            raise UserError("the coordinates of an MLPField are code")
        shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in self.shapes]
        return {
            "like": self.structure.unflatten(shapes),
            "unit": self.structure.unflatten(self.unit.numbers()),
            "width": self.width,
            "depth": self.depth,
        }

    @classmethod
    def made_from(cls, like: Any, **options: Any) -> "MLPField":
        """A field of this kind, with shapes in place of parameters."""

        def make() -> MLPField:
            zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
            return cls(zeros, rngs=nnx.Rngs(0), **options)

        field = nnx.eval_shape(make)
        field.unit = _unit(like, options.get("unit"))
        return field


def _unit(like: PyTree, unit: PyTree[float] | None) -> Constant:
    unit = jax.tree.map(lambda a: 1.0, like) if unit is None else unit
    return Constant(jnp.array(jax.tree.leaves(unit), float))


def _as_they_are(flat: Array) -> Array:
    return flat
