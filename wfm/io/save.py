"""Networks for others: one file for each, or all in one."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wfm.atomic import replacing
from wfm.checks import some
from wfm.errors import UserError
from wfm.io.beside import FILE_COLUMNS, TABLES
from wfm.io.formats import FORMATS, writer
from wfm.weights.layout import Layout, Stored, to_stored
from wfm.zoo import WeightSet


def save_networks(
    networks: WeightSet | Mapping[str, Any],
    path: str | Path,
    layout: Layout | None = None,
    format: str = "torch",
    *,
    stacked: bool = False,
    others: Mapping[str, Any] | None = None,
) -> None:
    """Write a zoo, or stacked weights, in a format of `wfm.io.FORMATS`, atomically.

    `path` becomes a folder with one file for each network, `network_0000.pt`, …, and for a zoo
    `metrics.csv` with the trajectory, step and metrics of each. `load_state_dict(torch.load(file))`
    takes a file if `layout` is that of the module. With `stacked`, `path` becomes one file
    with all networks, their numbers and, if the zoo has them, the initial weights.
    `load_networks` reads both. `layout`: where and how each array is stored; by default under its
    own name. `others`: arrays that every file holds as they are, such as PyTorch's buffers.

    Raises `UserError` if the folder holds files, or networks do not fit the layout.
    """
    path, write = Path(path), writer(format)
    zoo = networks if isinstance(networks, WeightSet) else None
    given = networks.weights if isinstance(networks, WeightSet) else networks
    weights = {name: np.asarray(a) for name, a in given.items()}
    layout = _as_stacked(weights) if layout is None else layout
    _check(weights, layout)
    fixed = {name: np.asarray(a) for name, a in (others or {}).items()}
    if stacked:
        with replacing(path) as partial:
            write(partial, _all(weights, zoo, layout) | fixed)
        return
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(f"{path} is there and not empty; choose a new folder")
    with replacing(path) as partial:
        partial.mkdir()
        names = list(_names(len(next(iter(weights.values()))), FORMATS[format].suffix))
        for i, name in enumerate(names):
            one = to_stored(layout, {n: a[i] for n, a in weights.items()})
            write(partial / name, {n: np.asarray(a) for n, a in one.items()} | fixed)
        if zoo is not None:
            _write_table(partial / TABLES[0], names, zoo)


def _as_stacked(weights: Mapping[str, np.ndarray]) -> Layout:
    return {n: Stored(n, a.shape[1:], tuple(range(a.ndim - 1))) for n, a in weights.items()}


def _check(weights: Mapping[str, np.ndarray], layout: Layout) -> None:
    if weights.keys() != layout.keys():
        unlike = sorted(weights.keys() ^ layout.keys())
        raise UserError(f"weights and layout have not the same arrays: {some(unlike, 5)}")
    for name, a in weights.items():
        place = layout[name]
        shape = tuple(place.split[i] for i in place.order)
        if a.shape[1:] != shape or a.ndim != len(shape) + 1:
            raise UserError(
                f"{name!r} has shape {a.shape}, and stacked networks of this layout (n, *{shape})"
            )


def _all(
    weights: Mapping[str, np.ndarray], zoo: WeightSet | None, layout: Layout
) -> dict[str, np.ndarray]:
    """Stored arrays of all networks; those of a zoo in its parts."""
    stored = {name: np.asarray(a) for name, a in to_stored(layout, weights).items()}
    if zoo is None:
        return stored
    found = {f"weights.{name}": a for name, a in stored.items()}
    found |= {f"metrics.{name}": np.asarray(a) for name, a in zoo.metrics.items()}
    if zoo.initial is not None:
        initial = to_stored(layout, {n: np.asarray(a) for n, a in zoo.initial.items()})
        found |= {f"initial.{name}": np.asarray(a) for name, a in initial.items()}
    return found | {"trajectory": np.asarray(zoo.trajectory), "step": np.asarray(zoo.step)}


def _names(n: int, suffix: str) -> Iterator[str]:
    digits = max(4, len(str(n - 1)))
    return (f"network_{i:0{digits}}{suffix}" for i in range(n))


def _write_table(path: Path, names: list[str], zoo: WeightSet) -> None:
    columns = {"trajectory": zoo.trajectory, "step": zoo.step, **zoo.metrics}
    rows = zip(names, *(np.asarray(a).tolist() for a in columns.values()), strict=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([FILE_COLUMNS[0], *columns])
        table.writerows(rows)
