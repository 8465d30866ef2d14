"""A few examples at a time."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree


def batched(f: Callable[..., PyTree], n: int) -> Callable[..., PyTree]:
    """`jax.vmap(f)` for `n` stacked inputs.

    A single input goes through `f` as it is: XLA sums arrays with an axis of length 1 up to
    ten times slower on a CPU than without it.
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
