"""The best one-to-one assignment."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from optax.assignment import hungarian_algorithm

from wfm.checks import non_finite_rows, some
from wfm.errors import UserError


def best_assignment(score: Float[Array, "n m"]) -> Int[Array, " n"]:
    """The permutation π that maximises Σᵢ score[i, π(i)], by the Hungarian algorithm (Kuhn 1955).

    Raises `UserError` unless there are as many columns as rows, and for NaN or infinite scores.
    Compiled code cannot raise: there such scores give the identity, and do not disturb the
    other assignments.
    """
    if score.shape[0] != score.shape[1]:
        raise UserError(
            f"an assignment pairs equally many rows and columns, got scores of shape {score.shape}"
        )
    if bad := non_finite_rows(score):
        raise UserError(
            f"an assignment needs finite scores, but rows {some(bad)} hold NaN or infinity; use "
            "large negative scores for pairs that must not be"
        )
    finite = jnp.isfinite(score).all()
    rows, columns = hungarian_algorithm(jnp.where(finite, -score, 0))
    identity = jnp.arange(len(score), dtype=columns.dtype)
    return jnp.where(finite, jnp.zeros_like(identity).at[rows].set(columns), identity)
