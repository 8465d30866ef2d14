"""Networks with NaN or infinite weights or outputs: found, named, and left out of averages."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, PyTree

from wfm.checks import numbers, some


@jax.jit
def finite_rows(stacked: PyTree[Array]) -> Bool[Array, " n"]:
    """Which of the stacked rows have only finite entries, in all arrays."""
    each = [jnp.isfinite(a).reshape(len(a), -1).all(1) for a in jax.tree.leaves(stacked)]
    return jnp.stack(each).all(0)


def for_rows(good: Bool[Array, " n"], like: Array) -> Bool[Array, "n ..."]:
    """`good` with the axes of `like`, for choosing rows."""
    return good.reshape(-1, *[1] * (like.ndim - 1))


@jax.jit
def only_where(good: Bool[Array, " n"], stacked: PyTree[Array], other: ArrayLike) -> PyTree[Array]:
    """The stacked arrays, with `other` in place of all entries of rows that are not good."""
    return jax.tree.map(lambda a: jnp.where(for_rows(good, a), a, other), stacked)


def warn_of(
    good: Bool[Array, " n"], what: str, outcome: str, fault: str = "hold NaN or infinity"
) -> None:
    """Warn of the rows that are not good, by name; silent in compiled code."""
    read = numbers(good)
    if read is not None and not read.all():
        rows = np.flatnonzero(~read).tolist()
        warnings.warn(
            f"{len(rows)} of {len(read)} {what} ({some(rows)}) {fault}: {outcome}", stacklevel=3
        )
