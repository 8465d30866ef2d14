"""How others store the arrays of a network: under another name, with axes in another order."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from wfm.errors import UserError


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where one array of a network is stored, and how.

    `name`: of the stored array. `split`: its shape, where an axis that stands for several is
    written as these, the slowest first: the 400 inputs of a layer after the flattening of 16
    channels of 5 by 5 pixels are `16, 5, 5`. `order`: for each axis of the network's array its
    place in `split`.

        >>> kernel = Stored("fc1.weight", split=(120, 16, 5, 5), order=(2, 3, 1, 0))

    is a dense layer of PyTorch with axes `(5, 5, "channels", "out")`.
    """

    name: str
    split: tuple[int, ...]
    order: tuple[int, ...]
    joined: tuple[int, ...] = ()
    """The stored shape, if axes are split; by default `split`."""
    entry: int | None = None
    """Which entry of a stored stack of arrays of this shape it is, if it is one of several."""

    def __post_init__(self):
        if sorted(self.order) != list(range(len(self.split))):
            raise UserError(
                f"{self.name!r}: an order of {len(self.split)} axes names each of them once, got "
                f"{self.order}"
            )
        if math.prod(self.split) != math.prod(self.shape):
            raise UserError(
                f"{self.name!r}: the shape {self.shape} cannot be split into {self.split}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The stored shape."""
        return self.joined or self.split

    def read(self, stored: Shaped[Array | np.ndarray, "..."]) -> Shaped[Array | np.ndarray, "..."]:
        """The network's array, or those of many networks stacked along the first axis."""
        first = stored.shape[: stored.ndim - len(self.shape)]
        if stored.shape[len(first) :] != self.shape or len(first) > 1:
            raise UserError(
                f"{self.name!r} has shape {tuple(stored.shape)}, and {self.shape} is expected; "
                "give the widths that the network was made with"
            )
        order = (*range(len(first)), *(len(first) + i for i in self.order))
        return stored.reshape(*first, *self.split).transpose(order)

    def write(self, array: Shaped[Array | np.ndarray, "..."]) -> Shaped[Array | np.ndarray, "..."]:
        """The inverse of `read`."""
        first = array.ndim - len(self.order)
        order = (*range(first), *(first + int(i) for i in np.argsort(self.order)))
        split = array.transpose(order)
        return split.reshape(*array.shape[:first], *self._joined(split.shape[first:]))

    def _joined(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """The stored shape, where the parts of its axes have these sizes."""
        joined, place = [], 0
        for size in self.shape:
            start, product = place, 1
            while product < size or (place == start and size == 1 and place < len(split)):
                product, place = product * self.split[place], place + 1
            joined.append(math.prod(split[start:place]))
        return tuple(joined)


Layout = Mapping[str, Stored]
"""For each array of a network where it is stored."""


def from_stored(
    layout: Layout, stored: Mapping[str, Array | np.ndarray]
) -> dict[str, Array | np.ndarray]:
    """The arrays of a network, or of many stacked, from the stored ones.

    Raises `UserError` if one is missing, has another shape, or is not in the layout.
    """
    named = {place.name for place in layout.values()}
    missing, extra = named - stored.keys(), stored.keys() - named
    if missing or extra:
        raise UserError(
            f"the stored arrays are not those of this layout: missing {sorted(missing)}, unknown "
            f"{sorted(extra)}"
        )
    return {name: place.read(_entry(stored[place.name], place)) for name, place in layout.items()}


def _entry(stack: Any, place: Stored) -> Any:
    """The stored array, of one network or of many stacked; for a layer of many, its entry."""
    if place.entry is None:
        return stack
    return stack[(slice(None),) * (stack.ndim - len(place.shape) - 1) + (place.entry,)]


def to_stored(
    layout: Layout, weights: Mapping[str, Array | np.ndarray]
) -> dict[str, Array | np.ndarray]:
    """The inverse of `from_stored`."""
    whole = {p.name: p.write(weights[name]) for name, p in layout.items() if p.entry is None}
    entries: dict[str, list[tuple[int, Any, int]]] = {}
    for name, place in layout.items():
        if place.entry is not None:
            first = weights[name].ndim - len(place.order)
            part = place.entry, place.write(weights[name]), first
            entries.setdefault(place.name, []).append(part)
    for name, parts in entries.items():
        ordered = sorted(parts, key=lambda part: part[0])
        stack = np.stack if isinstance(ordered[0][1], np.ndarray) else jnp.stack
        whole[name] = stack([array for _, array, _ in ordered], ordered[0][2])
    return whole
