"""The best soft assignment."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Float

Matrix = Float[Array, "n n"]
Scalar = float | Float[Array, ""]
ITERATIONS = 20


def sinkhorn(
    score: Float[Array, "n m"], temperature: Scalar, iterations: int = ITERATIONS
) -> Matrix:
    """The doubly stochastic P that maximises ⟨P, score⟩ + temperature · entropy(P).

    Sinkhorn's operator (Cuturi 2013; Mena et al. 2018), in the logarithmic domain: rows and
    columns are normalised in turn, `iterations` times. Columns sum to 1 exactly, rows in the
    limit, which is reached the later the lower the temperature.

    The gradient with respect to `score` is that of the limit, by the implicit function theorem
    (Eisenberger et al. 2022, theorem 3), so that memory does not grow with `iterations`. There is
    none with respect to `temperature`.
    """
    if score.shape[0] != score.shape[1]:
        raise ValueError(
            f"a soft assignment pairs equally many rows and columns, got scores of shape "
            f"{score.shape}"
        )
    return _sinkhorn(score, jnp.asarray(temperature), iterations)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sinkhorn(score: Matrix, temperature: Array, iterations: int) -> Matrix:
    def normalise(log_plan: Matrix, _: None) -> tuple[Matrix, None]:
        log_plan = log_plan - logsumexp(log_plan, axis=1, keepdims=True)
        return log_plan - logsumexp(log_plan, axis=0, keepdims=True), None

    return jnp.exp(jax.lax.scan(normalise, score / temperature, length=iterations)[0])


def _forward(score: Matrix, temperature: Array, iterations: int):
    plan = _sinkhorn(score, temperature, iterations)
    return plan, (plan, temperature)


def _backward(iterations: int, residuals: tuple[Matrix, Array], gradient: Matrix):
    # With log P = score/τ + u 1ᵀ + 1 vᵀ and fixed marginals, the potentials' share of the gradient
    # solves  u + P v = rows, Pᵀ u + v = columns:  alternated, as the plan itself is.
    plan, temperature = residuals
    weighted = plan * gradient
    rows, columns = weighted.sum(1), weighted.sum(0)

    def alternate(v: Array, _: None) -> tuple[Array, None]:
        return columns - plan.T @ (rows - plan @ v), None

    v = jax.lax.scan(alternate, jnp.zeros_like(columns), length=iterations)[0]
    u = rows - plan @ v
    change = (weighted - plan * (u[:, None] + v[None])) / temperature
    return change, jnp.zeros_like(temperature)


_sinkhorn.defvjp(_forward, _backward)
