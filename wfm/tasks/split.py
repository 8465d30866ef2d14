"""Dividing examples at random."""

import numpy as np


def divide(
    rows: np.ndarray, y: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in two parts with equal shares of each class, the second as large as `share` of all."""
    from sklearn.model_selection import train_test_split  # here, as it takes a second to import

    first, second = train_test_split(rows, test_size=share, stratify=y[rows], random_state=seed)
    return np.sort(first), np.sort(second)
