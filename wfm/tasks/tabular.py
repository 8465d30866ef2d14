"""Small data sets that come with scikit-learn."""

import jax.numpy as jnp
import numpy as np
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from wfm.tasks.split import divide
from wfm.tasks.task import Split, Task

TABLES = {
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
}


def load_table(name: str, split: int) -> Task:
    """A fifth each for validation and test; each feature is standardised."""
    x, y = TABLES[name](return_X_y=True)
    rest, test_rows = divide(np.arange(len(y)), y, 0.2, split)
    train_rows, validation_rows = divide(rest, y, 0.2 / (1 - 0.2), split)
    x = StandardScaler().fit(x[train_rows]).transform(x)

    def rows(index: np.ndarray) -> Split:
        return Split(jnp.asarray(x[index], jnp.float32), jnp.asarray(y[index], jnp.int32))

    return Task(rows(train_rows), rows(validation_rows), rows(test_rows), int(y.max()) + 1)
