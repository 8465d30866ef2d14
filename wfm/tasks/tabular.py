"""Small data sets that come with scikit-learn."""

import jax.numpy as jnp
import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from wfm.tasks.task import Split, Task

LOADERS = {
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
}


def load_task(name: str, split: int = 0, validation: float = 0.2, test: float = 0.2) -> Task:
    """A data set by name, in fixed stratified splits, each feature standardised.

    `split` numbers the random ways to divide it, so that no figure need hang on one small test
    set. Mean and variance are those of the training split, so nothing of the others leaks in.
    """
    if name not in LOADERS:
        raise ValueError(f"unknown task {name!r}; choose one of {', '.join(LOADERS)}")
    x, y = LOADERS[name](return_X_y=True)
    rest, test_rows = _divide(np.arange(len(y)), y, test, split)
    train_rows, validation_rows = _divide(rest, y, validation / (1 - test), split)
    x = StandardScaler().fit(x[train_rows]).transform(x)

    def rows(index: np.ndarray) -> Split:
        return Split(jnp.asarray(x[index], jnp.float32), jnp.asarray(y[index], jnp.int32))

    return Task(rows(train_rows), rows(validation_rows), rows(test_rows), int(y.max()) + 1)


def _divide(
    rows: np.ndarray, y: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    first, second = train_test_split(rows, test_size=share, stratify=y[rows], random_state=seed)
    return np.sort(first), np.sort(second)
