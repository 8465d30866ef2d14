"""Random vectors in the structure of a point."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from wfm.manifolds import Point


def normal_like(key: Key[Array, ""], x: Point) -> Point:
    """Independent standard normal numbers in the structure of `x`."""
    return _draw(jax.random.normal, key, x)


def rademacher_like(key: Key[Array, ""], x: Point) -> Point:
    """Independent signs, ±1 with equal odds, in the structure of `x`."""
    return _draw(jax.random.rademacher, key, x)


def _draw(draw: Callable[..., Array], key: Key[Array, ""], x: Any) -> Any:
    leaves, structure = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        draw(k, jnp.shape(a), jnp.result_type(a)) for k, a in zip(keys, leaves, strict=True)
    )
