"""How others store the arrays of a network: under another name, with axes in another order."""

import dataclasses
import math
from collections.abc import Mapping

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

        >>> kernel = Stored("fc1.weight", (120, 16, 5, 5), order=(2, 3, 1, 0), joined=(120, 400))

    is a dense layer of PyTorch with axes `(5, 5, "channels", "out")`. `part`: which of how many
    equal parts of the stored array's first axis this is, as in `(1, 3)` for the keys in PyTorch's
    `in_proj_weight` of queries, keys and values; `split` and `joined` are then those of the part.
    """

    name: str
    split: tuple[int, ...]
    order: tuple[int, ...]
    joined: tuple[int, ...] = ()
    """The stored shape, if axes are split; by default `split`."""
    part: tuple[int, int] = (0, 1)

    def __post_init__(self):
        if sorted(self.order) != list(range(len(self.split))):
            raise UserError(
                f"{self.name!r}: an order of {len(self.split)} axes names each of them once, got "
                f"{self.order}"
            )
        if math.prod(self.split) != math.prod(self._part_shape):
            raise UserError(
                f"{self.name!r}: the shape {self._part_shape} cannot be split into {self.split}"
            )
        number, parts = self.part
        if not 0 <= number < parts or (parts > 1 and not self.split):
            raise UserError(f"{self.name!r}: no part {number} of {parts} in shape {self.split}")

    @property
    def _part_shape(self) -> tuple[int, ...]:
        return self.joined or self.split

    @property
    def shape(self) -> tuple[int, ...]:
        """The stored shape, of all parts."""
        shape = self._part_shape
        return (self.part[1] * shape[0], *shape[1:]) if shape else shape

    def read(self, stored: Shaped[Array | np.ndarray, "..."]) -> Shaped[Array | np.ndarray, "..."]:
        """The network's array, or those of many networks stacked along the first axis."""
        first = stored.shape[: stored.ndim - len(self.shape)]
        if stored.shape[len(first) :] != self.shape or len(first) > 1:
            raise UserError(
                f"{self.name!r} has shape {tuple(stored.shape)}, and {self.shape} is expected; "
                "give the widths that the network was made with"
            )
        order = (*range(len(first)), *(len(first) + i for i in self.order))
        number, parts = self.part
        own = stored.reshape(*first, parts, *self._part_shape)[
            (slice(None),) * len(first) + (number,)
        ]
        return own.reshape(*first, *self.split).transpose(order)

    def write(self, array: Shaped[Array | np.ndarray, "..."]) -> Shaped[Array | np.ndarray, "..."]:
        """The inverse of `read`: the stored array, or this part of it."""
        first = array.ndim - len(self.order)
        order = (*range(first), *(first + int(i) for i in np.argsort(self.order)))
        split = array.transpose(order)
        return split.reshape(*array.shape[:first], *self._joined(split.shape[first:]))

    def _joined(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """The stored shape of this part, where the parts of its axes have these sizes."""
        joined, place = [], 0
        for size in self._part_shape:
            start, product = place, 1
            alone = size == 1 and place < len(split) and self.split[place] == 1
            while product < size or (alone and place == start):
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
    return {name: place.read(stored[place.name]) for name, place in layout.items()}


def to_stored(
    layout: Layout, weights: Mapping[str, Array | np.ndarray]
) -> dict[str, Array | np.ndarray]:
    """The inverse of `from_stored`."""
    parts: dict[str, dict[int, Array | np.ndarray]] = {}
    for name, place in layout.items():
        parts.setdefault(place.name, {})[place.part[0]] = place.write(weights[name])
    places = {place.name: place for place in layout.values()}
    return {name: _whole(places[name], found) for name, found in parts.items()}


def _whole(place: Stored, parts: Mapping[int, Array | np.ndarray]) -> Array | np.ndarray:
    """The stored array, from its parts by number."""
    if len(parts) < place.part[1]:
        raise UserError(
            f"the layout has {len(parts)} of the {place.part[1]} parts of {place.name!r}"
        )
    if len(parts) == 1:
        return parts[0]
    join = np.concatenate if isinstance(parts[0], np.ndarray) else jnp.concatenate
    axis = parts[0].ndim - len(place.shape)
    return join([parts[number] for number in range(place.part[1])], axis)
