"""Compiled functions over many networks, a chunk at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def in_chunks(function: Callable[[PyTree[Array]], Any], stacked: PyTree[Array], chunk: int) -> Any:
    """`function(stacked)` for a batched `function`, computed for `chunk` rows at a time.

    Memory stays bounded, and since the last chunk is filled up to full length, a jitted function
    compiles once for any number of rows.
    """
    n = len(jax.tree.leaves(stacked)[0])
    results = []
    for start in range(0, max(n, 1), chunk):
        rows = jnp.minimum(jnp.arange(start, start + chunk), n - 1)
        results.append(function(jax.tree.map(lambda a, rows=rows: a[rows], stacked)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:n], *results)
