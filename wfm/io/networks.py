"""From stored arrays to networks, as a layout declares them."""

import dataclasses
import fnmatch
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError
from wfm.io.nested import Named, listed
from wfm.weights import WeightSpec
from wfm.weights.layout import Layout, Stored, from_stored

PART = re.compile(r"(weights|metrics|initial)[./](.+)", re.DOTALL)  # of our own zoos
NUMBERS = ("trajectory", "step")
NO_FIGURES = (
    *("config.*", "*num_batches_tracked", "pid", "time*", "date", "*_since_restore", "warmup_time"),
    *(*NUMBERS, "training_iteration"),
)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a network is from: its file or row, trajectory and step, and all that is said of it.

    `about` has what stands beside the network, or in its file: figures and settings by name.
    """

    name: str
    trajectory: str | int
    step: int
    about: Mapping[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers among `about` that say how good the network is; settings are none."""
        return {
            name: _float(value)
            for name, value in self.about.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and _is_figure(name)
        }


@functools.lru_cache(maxsize=4096)
def _is_figure(name: str) -> bool:
    return not any(fnmatch.fnmatchcase(name, pattern) for pattern in NO_FIGURES)


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def origin(name: str, about: Mapping[str, Any]) -> Origin:
    """By default a network is its own trajectory, at step 0."""
    step, trajectory = _whole(about.get("step", 0)), about.get("trajectory", name)
    if step is None:
        raise UserError(f"its step is no whole number: {listed([about['step']])}")
    number = _whole(trajectory)
    return Origin(name, str(trajectory) if number is None else number, step, about)


def _whole(value: Any) -> int | None:
    """A whole number that JAX can count to."""
    if not isinstance(value, int | float) or not abs(value) < 2**31 or value != int(value):
        return None
    return int(value)


class Batch(NamedTuple):
    """Networks that were read together, stacked, and what their file says of each."""

    weights: dict[str, np.ndarray]
    abouts: Sequence[Mapping[str, Any]]
    initial: dict[str, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    """How stored arrays become those of a network.

    `flat`: the array that holds whole networks as vectors, in which the stored arrays follow each
    other in the order of `layout`; no other weights are read. `ignore`: patterns of names that are
    no weights.
    """

    spec: WeightSpec
    layout: Layout
    flat: str | None = None
    ignore: Sequence[str] = ()

    def __post_init__(self):
        arrays = {name: self.spec.shape(name) for name in self.spec.arrays}
        if arrays.keys() != self.layout.keys():
            missing, extra = arrays.keys() - self.layout.keys(), self.layout.keys() - arrays.keys()
            raise UserError(
                f"the layout is not one of this network: it lacks {listed(sorted(missing))}, and "
                f"names {listed(sorted(extra))} besides"
            )
        for name, place in self.layout.items():
            read = tuple(place.split[i] for i in place.order)
            if read != arrays[name]:
                raise UserError(
                    f"by its layout {name!r} has shape {read}, and in this network "
                    f"{arrays[name]}; give the layout of these widths"
                )

    def networks(self, name: str, found: Named) -> Iterator[tuple[str, Batch | UserError]]:
        """The networks in a file, or why one of them cannot be used, each with its name."""
        arrays, others = dict(found[0]), found[1]
        for pattern in self.ignore:
            arrays = {n: a for n, a in arrays.items() if not fnmatch.fnmatchcase(n, pattern)}
        numbers = self._numbers(arrays)
        if self.flat is not None:
            arrays = self._cut(arrays)
        initial = self._part("initial", arrays)
        arrays = self._part("weights", arrays) or arrays
        if self._names <= arrays.keys() or not self._grouped(arrays):
            yield name, self._stacked(arrays, numbers, others, initial)
        else:
            yield from self._of_groups(name, arrays, others)

    @property
    def _names(self) -> set[str]:
        return {place.name for place in self.layout.values()}

    def _cut(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The stored arrays of vectors, which are taken out."""
        if self.flat not in arrays:
            raise UserError(f"it holds no array {self.flat!r}; it has {listed(sorted(arrays))}")
        vectors, places = arrays.pop(self.flat), list(self.layout.values())
        ends = np.cumsum([int(np.prod(place.shape)) for place in places])
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != ends[-1]:
            raise UserError(
                f"{self.flat!r} has shape {vectors.shape}, and networks of {ends[-1]} weights are "
                f"vectors of this length, or rows"
            )
        cut = np.split(vectors, ends[:-1], -1)
        return {
            p.name: a.reshape(*a.shape[:-1], *p.shape) for p, a in zip(places, cut, strict=True)
        }

    def _numbers(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Trajectories, steps and metrics, which are taken out."""
        found = {}
        for name in list(arrays.keys() - self._names):
            match = PART.fullmatch(name)
            if name in NUMBERS or (match and match[1] == "metrics"):
                found[match[2] if match else name] = arrays.pop(name)
        return found

    def _part(self, part: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of a part of a zoo of ours, which are taken out; none if it has none."""
        matches = {name: found for name in arrays if (found := PART.fullmatch(name))}
        inside = {match[2]: name for name, match in matches.items() if match[1] == part}
        if not self._names <= inside.keys():
            return {}
        return {short: arrays.pop(name) for short, name in inside.items()}

    def _grouped(self, arrays: Mapping[str, Any]) -> bool:
        return bool(arrays) and all(self._place(name)[1] for name in arrays)

    def _place(self, name: str) -> tuple[str, str]:
        """The group of an array, and its name there: "net_3", "fc1.weight"; or no name."""
        for dot in re.finditer(r"\.", name):
            if name[dot.end() :] in self._names:
                return name[: dot.start()], name[dot.end() :]
        return name, ""

    def _of_groups(
        self, name: str, arrays: dict[str, np.ndarray], others: Mapping[str, Any]
    ) -> Iterator[tuple[str, Batch | UserError]]:
        """One network for each group of arrays, and what is said of it."""
        groups: dict[str, dict[str, np.ndarray]] = {}
        for place in list(arrays):
            group, inside = self._place(place)
            groups.setdefault(group, {})[inside] = arrays.pop(place)
        if len({re.sub(r"\d+", "", group) for group in groups}) > 1:  # as a network and its average
            raise UserError(
                f"it holds arrays of a network under {listed(sorted(groups))}; say by `key` which "
                "to read (groups that differ in their numbers only are networks each)"
            )
        abouts: dict[str, dict[str, Any]] = {}
        for place, value in others.items():
            group, _, last = place.rpartition(".")
            abouts.setdefault(group, {})[last] = value
        for group in sorted(groups, key=natural):
            try:
                yield (
                    f"{name} {group}",
                    self._stacked(groups.pop(group), {}, abouts.get(group, {})),
                )
            except UserError as error:
                yield f"{name} {group}", error

    def _stacked(
        self,
        arrays: Mapping[str, np.ndarray],
        numbers: Mapping[str, np.ndarray],
        others: Mapping[str, Any],
        initial: Mapping[str, np.ndarray] | None = None,
    ) -> Batch:
        missing, extra = self._names - arrays.keys(), arrays.keys() - self._names
        if missing or extra:
            raise UserError(
                f"its arrays are not those of this layout: missing {listed(sorted(missing))}, "
                f"unknown {listed(sorted(extra))}{self._hint(arrays)}"
            )
        weights = self._read(arrays)
        for name, a in weights.items():
            if not jnp.issubdtype(a.dtype, jnp.floating):
                raise UserError(f"{name!r} holds {a.dtype}, and weights are floating-point numbers")
        return _batch(self.spec, weights, numbers, others, self._read(initial) if initial else None)

    def _read(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {n: np.asarray(a) for n, a in from_stored(self.layout, arrays).items()}

    def _hint(self, arrays: Mapping[str, np.ndarray]) -> str:
        vectors = [n for n, a in arrays.items() if a.shape[1:] == (self.spec.n_weights,)]
        return f"; if {vectors[0]!r} holds whole networks, say so by `flat`" if vectors else ""


def _batch(
    spec: WeightSpec,
    weights: Mapping[str, Any],
    numbers: Mapping[str, np.ndarray],
    others: Mapping[str, Any],
    initial: dict[str, np.ndarray] | None,
) -> Batch:
    firsts = {a.shape[: a.ndim - len(spec.shape(name))] for name, a in weights.items()}
    if len(firsts) > 1:
        raise UserError(f"its arrays hold unequal numbers of networks: {listed(sorted(firsts))}")
    if firsts == {()}:
        return Batch({name: a[None] for name, a in weights.items()}, [others], initial)
    ((n,),) = firsts
    if wrong := [name for name, a in numbers.items() if a.shape != (n,)]:
        raise UserError(f"it holds {n} networks, and {listed(wrong)} not as many numbers")
    columns = {name: a.tolist() for name, a in numbers.items()}
    abouts = [{name: values[i] for name, values in columns.items()} for i in range(n)]
    return Batch(dict(weights), abouts, initial)


def as_named(spec: WeightSpec) -> Layout:
    """The layout of files with the names and axes of the network itself."""
    shapes = {name: spec.shape(name) for name in spec.arrays}
    return {name: Stored(name, s, tuple(range(len(s)))) for name, s in shapes.items()}


def natural(text: str) -> list[tuple[int, Any]]:
    """A key to sort by: "net_9" is before "net_10"."""
    parts = re.split(r"(\d+)", text)
    return [(1, int(p)) if p.isdecimal() and p.isascii() else (0, p) for p in parts]
