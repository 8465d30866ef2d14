"""A few rows at a time.

What works on rows of many arrays is compiled for all of them together.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree


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
    """`f` of each of the stacked inputs, at most `at_once` at a time.

    `jax.lax.map` with a `batch_size` would compile `f` again for the inputs left over. Here batches
    are equally long, and copies of the last input fill the last one.
    """
    total = len(jax.tree.leaves(stacked)[0])
    groups = max(1, -(-total // at_once))
    n = -(-total // groups)
    if n == 1:
        return jax.lax.map(f, stacked)
    if groups == 1:
        return jax.vmap(f)(stacked)
    filled = rows_from(stacked, 0, groups * n)
    parts = jax.tree.map(lambda a: a.reshape(groups, n, *a.shape[1:]), filled)
    found = jax.lax.map(jax.vmap(f), parts)
    joined = jax.tree.map(lambda a: a.reshape(groups * n, *a.shape[2:]), found)
    return first_rows(joined, total)


@jax.jit
def take_rows(stacked: PyTree, rows: int | Int[Array, "..."]) -> PyTree:
    """The stacked rows with these numbers, or the one with this number."""
    return jax.tree.map(lambda a: a[rows], stacked)


@partial(jax.jit, static_argnums=2)
def rows_from(stacked: PyTree, start: int | Int[Array, ""], size: int) -> PyTree:
    """`size` of the stacked rows, from `start` on, padded with copies of the last row."""
    n = len(jax.tree.leaves(stacked)[0])
    return take_rows(stacked, jnp.minimum(start + jnp.arange(size), n - 1))


@partial(jax.jit, static_argnums=(1, 2))
def first_rows(stacked: PyTree, n: int, axis: int = 0) -> PyTree:
    """The first `n` rows, or all if there are fewer."""
    first = lambda a: jax.lax.slice_in_dim(a, 0, min(n, a.shape[axis]), axis=axis)  # noqa: E731
    return jax.tree.map(first, stacked)


@partial(jax.jit, static_argnums=1)
def _joined(parts: Sequence[PyTree], axis: int) -> PyTree:
    return jax.tree.map(lambda *a: jnp.concatenate(a, axis), *parts)


def in_chunks(
    function: Callable[[PyTree[Array]], Any], stacked: PyTree[Array], chunk: int, out_axis: int = 0
) -> Any:
    """`function(stacked)` for a batched `function`, computed for `chunk` rows at a time.

    Memory stays bounded. Chunks are padded to one length, a power of two if fewer than `chunk` rows
    need no more, so a jitted function compiles for few numbers of rows, and less than half of its
    work is lost. Its outputs have their rows along `out_axis`.
    """
    n = len(jax.tree.leaves(stacked)[0])
    size = min(chunk, 1 << max(n - 1, 0).bit_length())
    parts = [function(rows_from(stacked, i, size)) for i in range(0, max(n, 1), size)]
    return first_rows(_joined(parts, out_axis), n, out_axis)
