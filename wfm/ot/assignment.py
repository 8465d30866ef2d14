"""The best one-to-one assignment."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from optax.assignment import hungarian_algorithm


def best_assignment(score: Float[Array, "n m"]) -> Int[Array, " n"]:
    """The permutation π that maximises Σᵢ score[i, π(i)], by the Hungarian algorithm (Kuhn 1955).

    Raises `ValueError` unless there are as many columns as rows.
    """
    if score.shape[0] != score.shape[1]:
        raise ValueError(
            f"an assignment pairs equally many rows and columns, got scores of shape {score.shape}"
        )
    rows, columns = hungarian_algorithm(-score)
    return jnp.zeros(len(score), columns.dtype).at[rows].set(columns)
