"""Linear maps of edges, with a gradient that stays fast when examples are stacked."""

from functools import partial
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float


@jax.custom_vjp
def rows_times(rows: Float[Array, "rows m"], kernel: Float[Array, "m n"]) -> Float[Array, "rows n"]:
    """`rows @ kernel`; it has no forward-mode derivative."""
    return rows @ kernel


def _forward(rows: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return rows @ kernel, (rows, kernel)


def _backward(saved: tuple[Array, Array], change: Array) -> tuple[Array, Array]:
    # Left to itself, the gradient of stacked examples is one product over two axes, for which
    # XLA transposes all rows on a CPU; and it is faster with the longer side as columns.
    rows, kernel = saved
    m, n = kernel.shape
    return change @ kernel.T, (change.T @ rows).T if m > n else rows.T @ change


rows_times.defvjp(_forward, _backward)


def _dot_general(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """`lax.dot_general` as `nnx.Linear` calls it."""
    return rows_times(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], kernel.shape[-1])


EdgeLinear = partial(nnx.Linear, dot_general=_dot_general)
