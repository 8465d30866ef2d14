"""Networks of any collection as one zoo."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError
from wfm.io.entry import Entry
from wfm.io.formats import naming
from wfm.io.networks import Origin, Reading, as_named
from wfm.io.sources import entries
from wfm.weights import Weights, WeightSpec
from wfm.weights.layout import Layout
from wfm.zoo import WeightSet

Track = Callable[[Sequence[Any]], Iterable[Any]]
ALIGNED = 64  # bytes
SHOWN = 3  # bad files that an error names


class Bad(NamedTuple):
    """What cannot be used, and why."""

    name: str
    reason: str


def load_networks(
    path: str | Path,
    spec: WeightSpec,
    layout: Layout | None = None,
    inputs: Any = None,
    outputs: Any = None,
    *,
    where: Callable[[Origin], bool] | None = None,
    skip_bad: bool = False,
    key: str | None = None,
    flat: str | None = None,
    ignore: Sequence[str] = (),
    like: Any = None,
    track: Track = iter,
) -> WeightSet:
    """The networks of a file or folder, with trajectory, step and metrics of each.

    `path` is a file with one network, or with many: stacked along the first axis, one in each group
    (HDF5), or as vectors (`flat`). Or it is a folder with one file for each network, which are
    sorted as people number them, with figures beside them: `NAME.json` for `NAME.pt`, or
    `metrics.csv` with a column `file`. Or it is a run of orbax's `CheckpointManager`, the Small
    CNN Zoo, or a Model Zoo.

    `layout` declares where and how each array is stored; by default files have the names and axes
    of `spec`. Nothing is guessed from shapes. `inputs`: a few of the task's, on which labels are
    verified once; with `outputs`, what the networks that are taken computed on them (n m outputs),
    so is the layout: a transposed square kernel shows in these alone. `where`: which networks to
    take, by what is known of them beside their files, as in `lambda net: net.step == 86`; others
    are not read. `skip_bad`: leave out files that cannot be used, instead of raising; `examine`
    says which, and why. `key`: the part of each file that is the network. `flat`: the array that
    holds networks as vectors, in which the stored arrays follow each other in the order of
    `layout`. `ignore`: patterns of names that are no weights. `like`: the module that Equinox files
    hold. `track`: shows progress, as `rich.progress.track` does.

    Weights are float32 (float64 if they are, and JAX allows it), whatever the files hold. They are
    not held twice. Each network is its own trajectory, at step 0, unless `trajectory` and `step`
    are among its figures. Raises `UserError` in one sentence.
    """
    path = Path(path)
    with naming(path):
        reading = Reading(spec, as_named(spec) if layout is None else layout, flat, ignore)
        _, found = entries(path, key, like)
        stack, origins, bad, initial = Stack(sum(entry.count for entry in found)), [], [], []
        for result in results(found, reading, where, track):
            if isinstance(result, Bad):
                bad.append(result)
                continue
            origins += result.origins
            stack.add(result.weights)
            initial.append(result.initial)
        if bad and not (skip_bad and origins):
            raise _refusal(bad, len(found), some=bool(origins))
        if not origins:
            raise UserError("no network in it is one that `where` takes")
        weights = stack.finish()
        alone = initial[0] if len(initial) == 1 else None  # else the files have one each
        zoo = _zoo(spec, weights, origins, alone)
        if inputs is not None:
            spec.verify(zoo.weights, inputs, outputs)
    return zoo


def _refusal(bad: Sequence[Bad], n: int, some: bool) -> UserError:
    """What is said of networks of `n` files if they cannot be used; `some`: others can."""
    if n == 1 and len(bad) == 1:
        return UserError(bad[0].reason)
    by_reason: dict[str, str] = {}
    for name, reason in bad:
        by_reason.setdefault(reason, name)
    shown = "; ".join(f"{name}: {reason}" for reason, name in list(by_reason.items())[:SHOWN])
    left = len(bad) - min(len(by_reason), SHOWN)
    more = f"; and {left} more" if left else ""
    if not some:
        return UserError(
            f"none of its {len(bad)} networks can be used ({shown}{more}); check the network and "
            "`layout`, and see all by `examine`"
        )
    return UserError(
        f"{len(bad)} of its networks cannot be used ({shown}{more}); leave them out by "
        "`skip_bad=True`, and see all by `examine`"
    )


def _zoo(
    spec: WeightSpec,
    weights: Weights,
    origins: Sequence[Origin],
    initial: Mapping[str, np.ndarray] | None,
) -> WeightSet:
    figures = [origin.metrics for origin in origins]
    names = dict.fromkeys(name for each in figures for name in each)
    return WeightSet.of(
        weights,
        spec,
        trajectory=_numbered([origin.trajectory for origin in origins]),
        step=np.array([origin.step for origin in origins]),
        metrics={name: _column(name, figures) for name in names},
        initial=initial,
    )


def _column(name: str, figures: Sequence[Mapping[str, float]]) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array([f.get(name, np.nan) for f in figures]).astype(np.float32)


def _numbered(trajectories: Sequence[str | int]) -> np.ndarray:
    """Numbers stay; names are numbered as they come."""
    if all(isinstance(name, int) for name in trajectories):
        return np.array(trajectories)
    numbers = {name: i for i, name in enumerate(dict.fromkeys(map(str, trajectories)))}
    return np.array([numbers[str(name)] for name in trajectories])


class Good(NamedTuple):
    """Networks that can be used, stacked, in working precision."""

    origins: list[Origin]
    weights: dict[str, np.ndarray]
    initial: dict[str, np.ndarray] | None


def results(
    found: Sequence[Entry],
    reading: Reading,
    where: Callable[[Origin], bool] | None,
    track: Track,
) -> Iterator[Good | Bad]:
    """All networks that `where` takes, as they are read, and what cannot be used."""
    for entry in track(found):
        try:
            yield from _of_entry(entry, reading, where or (lambda origin: True))
        except UserError as error:
            yield Bad(entry.name, str(error))


def _of_entry(
    entry: Entry, reading: Reading, where: Callable[[Origin], bool]
) -> Iterator[Good | Bad]:
    beside = None
    if entry.abouts is not None:
        beside = entry.origins(entry.abouts())
        if not any(map(where, beside)):
            return
    for name, batch in reading.networks(entry.name, entry.read()):
        if isinstance(batch, UserError):
            yield Bad(name, str(batch))
            continue
        known = beside or dataclasses.replace(entry, name=name).origins(batch.abouts)
        if len(known) != len(batch.abouts):
            raise UserError(
                f"it holds {len(batch.abouts)} networks, and {len(known)} are described"
            )
        rows = np.array([where(origin) for origin in known], bool)
        weights = {name: _working(a) for name, a in batch.weights.items()}
        for row in np.flatnonzero(rows & ~finite(weights)):
            rows[row] = False
            yield Bad(known[row].name, "it has NaN or infinite weights")
        kept = [known[row] for row in np.flatnonzero(rows)]
        yield Good(
            kept,
            weights if rows.all() else {name: a[rows] for name, a in weights.items()},
            batch.initial,
        )


def _working(a: np.ndarray) -> np.ndarray:
    """In the type that `in_working_precision` gives, still in NumPy."""
    wide = jnp.promote_types(jax.dtypes.canonicalize_dtype(a.dtype), jnp.float32)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        return np.asarray(a, wide)


def finite(weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which of stacked networks have no NaN or infinite entries."""
    return np.all([np.isfinite(a).reshape(len(a), -1).all(1) for a in weights.values()], 0)


class Stack:
    """Arrays that grow along their first axis, so that networks are held once."""

    def __init__(self, expected: int):
        self.room, self.n = max(expected, 1), 0
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, weights: Mapping[str, np.ndarray]) -> None:
        """Put stacked networks behind those that are there."""
        n = self.n + len(next(iter(weights.values())))
        while self.room < n:
            self.room *= 2
        for name, a in weights.items():
            to = self.arrays.get(name, a[:0])
            wide = np.promote_types(to.dtype, a.dtype)
            if len(to) < self.room or to.dtype != wide:
                grown = _empty((self.room, *a.shape[1:]), wide)
                grown[: self.n] = to[: self.n]
                to = self.arrays[name] = grown
            to[self.n : n] = a
        self.n = n

    def finish(self) -> Weights:
        """The arrays, which are given away one by one."""
        names = list(self.arrays)
        return {name: jax.device_put(self.arrays.pop(name)[: self.n]) for name in names}


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that JAX takes over on a CPU, without a copy, because of where it begins.

    The system gives its pages when they are filled.
    """
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + size].view(dtype).reshape(shape)
