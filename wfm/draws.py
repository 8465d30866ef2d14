"""Random arrays and pytrees.

All are drawn flat: under `vmap` XLA takes up to ten times longer to compile draws with several
axes, with the same numbers, and each draw of a tree's arrays takes as long as one of all entries.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree


def flat(
    draw: Callable[..., Array], key: Key[Array, ""], shape: Sequence[int], *options: Any
) -> Array:
    """`draw(key, shape, *options)`, for functions of `jax.random` with independent entries."""
    return draw(key, (math.prod(shape),), *options).reshape(shape)


def normal(key: Key[Array, ""], shape: Sequence[int]) -> Float[Array, "..."]:
    """Independent standard normal numbers."""
    return flat(jax.random.normal, key, shape)


def normal_like(key: Key[Array, ""], x: PyTree[Array]) -> PyTree[Array]:
    """Independent standard normal numbers in the structure of `x`."""
    return _draw(jax.random.normal, key, x)


def rademacher_like(key: Key[Array, ""], x: PyTree[Array]) -> PyTree[Array]:
    """Independent signs, ±1 with equal odds, in the structure of `x`."""
    return _draw(jax.random.rademacher, key, x)


def _draw(draw: Callable[..., Array], key: Key[Array, ""], x: PyTree[Array]) -> PyTree[Array]:
    leaves, structure = jax.tree.flatten(x)
    if not leaves:
        return x
    stops = np.cumsum([jnp.size(a) for a in leaves])
    all_in_one = draw(key, (stops[-1],), jnp.result_type(*leaves))
    parts = jnp.split(all_in_one, stops[:-1])
    return structure.unflatten(
        part.reshape(jnp.shape(a)).astype(jnp.result_type(a))
        for part, a in zip(parts, leaves, strict=True)
    )
