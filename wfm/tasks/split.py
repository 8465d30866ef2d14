"""Dividing examples at random."""

import numpy as np

from wfm.errors import UserError


def divide(
    rows: np.ndarray, y: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in two parts with equal class shares; the second holds the given `share` of all rows.

    Raises `UserError` if a class has too few rows.
    """
    from sklearn.model_selection import train_test_split  # here, because it takes a second

    try:
        first, second = train_test_split(rows, test_size=share, stratify=y[rows], random_state=seed)
    except ValueError as error:
        raise UserError(
            f"{len(rows)} examples cannot be divided with {share:.0%} in the second part "
            f"({str(error).split('. ')[0]}); give more examples of each class"
        ) from None
    return np.sort(first), np.sort(second)
