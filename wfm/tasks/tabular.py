"""Small data sets that come with scikit-learn."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from wfm.tasks.split import divide
from wfm.tasks.task import Split, Task


def _load(name: str, **options: Any) -> Any:
    from sklearn import datasets  # here, because it takes seconds

    return getattr(datasets, f"load_{name}")(**options)


TABLES = {name: partial(_load, name) for name in ("breast_cancer", "digits", "iris", "wine")}


def load_table(name: str, split: int) -> Task:
    """A table with a fifth each for validation and test; each feature is standardised."""
    from sklearn.preprocessing import StandardScaler

    x, y = TABLES[name](return_X_y=True)
    rest, test_rows = divide(np.arange(len(y)), y, 0.2, split)
    parts = np.zeros(len(y), int)
    parts[divide(rest, y, 0.2 / (1 - 0.2), split)[1]] = 1
    parts[test_rows] = 2
    parts = with_copies(parts, x, y)
    x = StandardScaler().fit(x[parts == 0]).transform(x)

    def rows(part: int) -> Split:
        mine = parts == part
        return Split(jnp.asarray(x[mine], jnp.float32), jnp.asarray(y[mine], jnp.int32))

    return Task(rows(0), rows(1), rows(2), int(y.max()) + 1)


def with_copies(parts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The part of each row, with equal rows of `x` in the same part: iris has a row twice.

    A copy moves to the part of the first equal row; a unique row of the same class moves back in
    exchange, so that sizes and shares stay the same. Without equal rows nothing changes.
    """
    _, first, kind, count = np.unique(
        x, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    parts, kind = parts.copy(), kind.ravel()  # of shape (n, 1) in NumPy 2.0.0
    for row in np.flatnonzero(parts != parts[first[kind]]):
        goal = parts[first[kind[row]]]
        alone = np.flatnonzero((parts == goal) & (y == y[row]) & (count[kind] == 1))
        parts[alone[:1]] = parts[row]
        parts[row] = goal
    return parts
