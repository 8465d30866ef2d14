"""Nested containers and flat names: `{"fc1": {"weight": …}}` is `fc1.weight`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wfm.errors import UserError

Named = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Arrays by name, and what else was read: numbers and texts by name."""


def flat(tree: Any) -> Named:
    """The arrays of nested containers by name, and the numbers and texts.

    Whole numbers without axes count something, as PyTorch's `num_batches_tracked` does, so they
    are no weights. Raises `UserError` if two have one name.
    """
    arrays, others = {}, {}
    for name, leaf in _leaves(tree, ""):
        if name in arrays or name in others:
            raise UserError(f"it holds {name!r} twice")
        if isinstance(leaf, np.ndarray) and leaf.ndim == 0 and leaf.dtype.kind in "iub":
            others[name] = leaf.item()
        elif isinstance(leaf, np.ndarray):
            arrays[name] = leaf
        elif isinstance(leaf, np.generic):
            others[name] = leaf.item()
        elif isinstance(leaf, bool | int | float | str):
            others[name] = leaf
    return arrays, others


def _leaves(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    if not isinstance(node, Mapping):
        yield place or "0", node  # a file may be one array alone
        return
    for key, value in node.items():
        yield from _leaves(value, f"{place}.{key}" if place else str(key))


def nest(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`: names are split at their dots."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *above, last = name.split(".")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise UserError(f"{name!r} cannot be nested: a part of its name is an array itself")
        if last in node:
            raise UserError(f"{name!r} cannot be nested: arrays are within it")
        node[last] = array
    return tree


def under(key: str, found: Named) -> Named:
    """What is below `key`, by the rest of its name."""
    arrays, others = (
        {n.removeprefix(key + "."): a for n, a in part.items() if n.startswith(key + ".")}
        for part in found
    )
    if not arrays:
        first = sorted({name.partition(".")[0] for name in found[0]})
        raise UserError(f"it holds no arrays under {key!r}; it has {listed(first)}")
    return arrays, others


def listed(names: Any, most: int = 5) -> str:
    """The first few names, each of a bearable length."""
    names = [str(name) for name in names]
    short = [repr(name if len(name) < 60 else name[:57] + "…") for name in names[:most]]
    rest = len(names) - most
    return ", ".join(short) + (f" and {rest} more" if rest > 0 else "") if short else "none"
