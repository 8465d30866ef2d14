"""Checks of input; each failure is one sentence for the person who gave it."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from wfm.errors import UserError


def check_count(name: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """Raise `UserError` unless `value` is a whole number from `least` to `most`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise UserError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise UserError(f"{name} must be at least {least}, got {value}")
    if most is not None and number > most:
        raise UserError(f"{name} must be at most {most}, got {value}")


def numbers(a: Any) -> np.ndarray | None:
    """The entries of an array, or `None` where they cannot be read.

    They cannot be read inside `jit` and `vmap`, from shapes without entries, or from arrays that
    other processes hold parts of.
    """
    if isinstance(a, jax.Array):
        if isinstance(a, Tracer):
            return None
        return np.asarray(a) if a.is_fully_addressable or a.is_fully_replicated else None
    return a if isinstance(a, np.ndarray) else None


def is_float(a: Any) -> bool:
    """Whether an array has floating-point entries of any precision."""
    return jnp.issubdtype(jnp.result_type(a), jnp.floating)


def non_finite_rows(stacked: PyTree) -> list[int]:
    """Rows with NaN or infinite entries in any array, as far as entries can be read."""
    bad: set[int] = set()
    for a in jax.tree.leaves(stacked):
        read = numbers(a) if is_float(a) else None
        if read is not None and not (finite := np.isfinite(read)).all():
            bad |= set(np.flatnonzero(~finite.reshape(len(read), -1).all(1)).tolist())
    return sorted(bad)


def all_finite(tree: PyTree) -> bool:
    """Whether no array has NaN or infinite entries, as far as entries can be read."""
    read = [numbers(a) for a in jax.tree.leaves(tree) if is_float(a)]
    return all(np.isfinite(a).all() for a in read if a is not None)


def some(items: Sequence[Any], most: int = 10) -> str:
    """The first few items, as text."""
    return ", ".join(map(str, items[:most])) + (", …" if len(items) > most else "")
