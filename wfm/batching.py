"""A few rows at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def batched(f: Callable[..., PyTree], n: int) -> Callable[..., PyTree]:
    """`jax.vmap(f)` for `n` stacked inputs.

    A single input goes through `f` without an extra axis: on a CPU XLA sums arrays with an axis of
    length 1 up to ten times slower than arrays without it.
    """
    if n > 1:
        return jax.vmap(f)

    def one(*stacked: Any) -> PyTree:
        inputs = jax.tree.map(lambda a: a.squeeze(0), stacked)
        return jax.tree.map(lambda a: a[None], f(*inputs))

    return one


def map_batched(f: Callable[[Any], PyTree], stacked: PyTree, at_once: int) -> PyTree:
    """`f` of each of the stacked inputs, `at_once` at a time."""
    n = min(at_once, len(jax.tree.leaves(stacked)[0]))
    return jax.lax.map(f, stacked, batch_size=n if n > 1 else None)


def rows_from(stacked: PyTree, start: int, size: int) -> PyTree:
    """`size` of the stacked rows, from `start` on, padded with copies of the last row."""
    n = len(jax.tree.leaves(stacked)[0])
    rows = jnp.minimum(jnp.arange(start, start + size), n - 1)
    return jax.tree.map(lambda a: a[rows], stacked)


def first_rows(stacked: PyTree, n: int, axis: int = 0) -> PyTree:
    """The first `n` rows, without the padding."""
    return jax.tree.map(lambda a: jax.lax.slice_in_dim(a, 0, n, axis=axis), stacked)


def in_chunks(
    function: Callable[[PyTree[Array]], Any], stacked: PyTree[Array], chunk: int, out_axis: int = 0
) -> Any:
    """`function(stacked)` for a batched `function`, computed for `chunk` rows at a time.

    Memory stays bounded. The last chunk is padded to full length, so a jitted function compiles
    once for any number of rows. Its outputs have their rows along `out_axis`.
    """
    n = len(jax.tree.leaves(stacked)[0])
    parts = [function(rows_from(stacked, i, chunk)) for i in range(0, max(n, 1), chunk)]
    whole = jax.tree.map(lambda *a: jnp.concatenate(a, out_axis), *parts)
    return first_rows(whole, n, out_axis)
