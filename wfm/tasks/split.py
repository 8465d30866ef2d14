"""Dividing examples at random."""

import numpy as np
from sklearn.model_selection import train_test_split


def divide(
    rows: np.ndarray, y: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in two parts with equal shares of each class, the second as large as `share` of all."""
    first, second = train_test_split(rows, test_size=share, stratify=y[rows], random_state=seed)
    return np.sort(first), np.sort(second)
