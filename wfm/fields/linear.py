"""Linear maps of edges, with a gradient that is fast for stacked examples too."""

from functools import partial
from typing import Any

import jax
from flax import nnx
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float


@jax.custom_jvp
def rows_times(rows: Float[Array, "rows m"], kernel: Float[Array, "m n"]) -> Float[Array, "rows n"]:
    """`rows @ kernel`, with derivatives of every order and mode.

    By default, the gradient of stacked examples with respect to their common kernel is one product
    over two axes, for which XLA transposes all rows on a CPU. Here each example has its own
    product, and the products are summed.
    """
    return rows @ kernel


@partial(rows_times.defjvp, symbolic_zeros=True)
def _change(primals: tuple[Array, Array], changes: tuple[Any, Any]) -> tuple[Array, Any]:
    (rows, kernel), (of_rows, of_kernel) = primals, changes
    change = 0 if isinstance(of_rows, SymbolicZero) else of_rows @ kernel
    if not isinstance(of_kernel, SymbolicZero):
        # A number that belongs to the rows keeps stacked examples apart: the transpose of the
        # product below is then one product per example, and the transpose of `one *` is a sum.
        one = 1 + jax.lax.stop_gradient(rows[:0]).sum()
        change = change + rows @ (one * of_kernel)
    return rows @ kernel, change


def _dot_general(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """`lax.dot_general`, as called by `nnx.Linear`."""
    return rows_times(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], kernel.shape[-1])


EdgeLinear = partial(nnx.Linear, dot_general=_dot_general)
