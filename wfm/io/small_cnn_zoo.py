"""The Small CNN Zoo: one matrix of flat networks, the layout of its columns, and metrics.

Unterthiner et al. (2020), "Predicting Neural Network Accuracy from Weights", and its README: 9
checkpoints of each of about 30,000 networks. `modeldir` names the training run of a row, `step` its
epoch.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wfm.errors import UserError
from wfm.io.beside import TABLES, blocks, table
from wfm.io.entry import Entry
from wfm.io.nested import Named, listed
from wfm.weights.layout import Layout, Stored

WEIGHTS, COLUMNS = "weights.npy", "layout.csv"
BLOCK = 1024  # rows that are read together
OWN_FOLDER = re.compile(r"/permanent_ckpt-\d+/?$")  # of one checkpoint in that of its run

LAYERS = {"conv1": "conv2d", "conv2": "conv2d_1", "conv3": "conv2d_2", "dense": "dense"}
KERNELS = {"conv1": (3, 3, 1, 16), "conv2": (3, 3, 16, 16), "conv3": (3, 3, 16, 16)}
KERNELS |= {"dense": (16, 10)}
SMALL_CNN_ZOO: Layout = {
    f"{layer}.{array}": Stored(f"sequential/{name}/{array}:0", shape, tuple(range(len(shape))))
    for layer, name in LAYERS.items()
    for array, shape in (("kernel", KERNELS[layer]), ("bias", KERNELS[layer][-1:]))
}
"""Where the Small CNN Zoo stores the arrays of its networks, by the names of `wfm.weights.cnn`."""


def knows(path: Path) -> bool:
    """Whether a folder is laid out so."""
    return (path / WEIGHTS).is_file() and (path / COLUMNS).is_file()


def entries(path: Path, read: Any) -> Sequence[Entry]:
    """Blocks of rows, which are read from the disk when they are needed."""
    try:
        matrix = np.load(path / WEIGHTS, mmap_mode="r", allow_pickle=False)
    except Exception:  # a damaged header can fail anywhere, with any exception
        raise UserError(f"{path / WEIGHTS} is damaged, or incomplete: get it again") from None
    columns, rows = _columns(path / COLUMNS, matrix), _rows(path, len(matrix))
    return [
        Entry(
            WEIGHTS,
            partial(_read, matrix, columns, block),
            lambda block=block: rows[block.start : block.stop],
            len(block),
            block.start,
        )
        for block in blocks(len(matrix), BLOCK)
    ]


Column = tuple[slice, tuple[int, ...]]


def _columns(path: Path, matrix: np.ndarray) -> dict[str, Column]:
    """The columns of each array, and its shape."""
    found: dict[str, Column] = {}
    for row in table(path):
        try:
            columns = slice(int(row["start_idx"]), int(row["end_idx"]))
            shape = tuple(int(n) for n in re.findall(r"\d+", str(row["shape"])))
            found[str(row["varname"])] = columns, shape
        except (KeyError, ValueError, TypeError):
            raise UserError(
                f"{path} has the columns {listed(row)}, and 'varname', 'start_idx', 'end_idx' and "
                "'shape' are needed, with numbers"
            ) from None
    places = sorted((c.start, c.stop, int(np.prod(shape))) for c, shape in found.values())
    ends = [0, *(stop for _, stop, _ in places)]
    fits = all(
        start == end and stop - start == size
        for end, (start, stop, size) in zip(ends, places, strict=False)
    )
    if matrix.ndim != 2 or not fits or ends[-1] != matrix.shape[-1]:
        raise UserError(f"{path} does not say what each column of {WEIGHTS} {matrix.shape} is")
    return found


def _rows(path: Path, n: int) -> list[Mapping[str, Any]]:
    """What is said of each row."""
    found = [path / name for name in TABLES if (path / name).is_file()]
    if not found:
        raise UserError(f"{path} has no {TABLES[0]}, which says from which run each row is")
    rows = table(found[0])
    if len(rows) != n:
        raise UserError(f"{found[0]} is about {len(rows)} networks, and {WEIGHTS} holds {n}")
    if rows and not {"modeldir", "step"} <= rows[0].keys():
        raise UserError(
            f"{found[0]} has the columns {listed(rows[0])}, and lacks 'modeldir' or 'step', "
            "which say from which run each row is"
        )
    return [row | {"trajectory": OWN_FOLDER.sub("", str(row["modeldir"]))} for row in rows]


def _read(matrix: np.ndarray, columns: Mapping[str, Column], rows: range) -> Named:
    block = np.asarray(matrix[rows.start : rows.stop])
    return {n: block[:, at].reshape(-1, *shape) for n, (at, shape) in columns.items()}, {}
