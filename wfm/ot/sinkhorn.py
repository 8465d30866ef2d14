"""The best soft assignment."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Float

from wfm.checks import numbers
from wfm.errors import UserError

Matrix = Float[Array, "n n"]
Vector = Float[Array, " n"]
State = tuple[Matrix, Array, Array, Array]  # log-plan, temperature, error, count
Scalar = float | Float[Array, ""]
ITERATIONS = 300  # far more than plans that float32 can tell from an assignment need
TOLERANCE = 1e-5
SWEEPS = 20  # before the first Newton step
NEAR = 0.1  # the error below which the temperature falls further
MILD = 16.0  # range of score/temperature that needs no annealing


def sinkhorn(
    score: Float[Array, "n m"],
    temperature: Scalar,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> Matrix:
    """The doubly stochastic P that maximises ⟨P, score⟩ + temperature · entropy(P).

    Sinkhorn's operator (Cuturi 2013; Mena et al. 2018), in the logarithmic domain: rows and
    columns are normalised in turn. If that is slow, iterations also take Newton steps for the two
    potentials (Brauer, Clason, Lorenz & Wirth 2017), while the temperature is halved repeatedly
    from one at which all plans are soft (Schmitzer 2019). Columns sum to 1 exactly. Iterations stop
    when rows do so within `tolerance`, or after `iterations`. `marginal_error` of the plan gives
    the error, and a call outside compiled code warns.

    All derivatives, forward and reverse, are those of the limit, by the implicit function theorem
    (Eisenberger et al. 2022, theorem 3), so memory does not grow with the number of iterations.
    """
    if score.shape[0] != score.shape[1]:
        raise UserError(
            f"a soft assignment pairs equally many rows and columns, got scores of shape "
            f"{score.shape}"
        )
    plan = _sinkhorn(score / temperature, iterations, tolerance)
    error = numbers(marginal_error(plan))
    if error is not None and error > 2 * tolerance:  # sums are rounded, too
        warnings.warn(
            f"rows of the soft assignment are off by {float(error):.2g} after {iterations} "
            "iterations; allow more, or raise the temperature",
            stacklevel=2,
        )
    return plan


def marginal_error(plan: Matrix) -> Float[Array, ""]:
    """The largest deviation of a row or column sum of a plan from 1."""
    return abs(jnp.concatenate([plan.sum(0), plan.sum(1)]) - 1).max(initial=0)


def to_doubly_stochastic(plan: Matrix) -> Matrix:
    """A doubly stochastic matrix near a plan: within twice the total error of its sums.

    Altschuler, Weed & Rigollet (2017, algorithm 2): rows and columns that are too heavy are scaled
    down, and the missing mass is added as the product of what each row and column lacks.
    """
    plan = plan / jnp.maximum(plan.sum(1), 1)[:, None]
    plan = plan / jnp.maximum(plan.sum(0), 1)[None]
    rows, columns = (jnp.maximum(1 - plan.sum(axis), 0) for axis in (1, 0))
    missing = rows.sum()
    return plan + rows[:, None] * columns[None] / jnp.where(missing > 0, missing, 1.0)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _sinkhorn(logits: Matrix, iterations: int, tolerance: float) -> Matrix:
    """The plan of score/temperature."""
    if not len(logits):
        return logits
    logits = logits - logits.max(1, keepdims=True)
    logits = logits - logits.max(0, keepdims=True)
    least = logits.min(where=jnp.isfinite(logits), initial=0)  # −∞ marks forbidden pairs
    warmth = jnp.maximum(-least / MILD, 1)  # temperature, in units of the final one
    soft = _sweep(_normalised(logits / warmth), iterations, tolerance)

    def unfinished(state: State) -> Array:
        _, warmth, error, count = state
        return ((error > tolerance) | (warmth > 1)) & (count < iterations)

    def iterate(state: State) -> State:
        log_plan, warmth, error, count = state
        cooler = jnp.where(error < NEAR, jnp.maximum(warmth / 2, 1), warmth)
        log_plan = jax.lax.fori_loop(0, 4, _by_rows_and_columns, log_plan * (warmth / cooler))
        tried = _newton(log_plan)
        error, error_tried = _error(log_plan), _error(tried)
        log_plan = jnp.where(error_tried < error, tried, log_plan)
        return log_plan, cooler, jnp.fmin(error, error_tried), count + 1

    state = soft, warmth, _error(soft), jnp.zeros((), int)
    log_plan, warmth, *_ = jax.lax.while_loop(unfinished, iterate, state)
    return jnp.exp(_normalised(log_plan * warmth))


def _sweep(log_plan: Matrix, most: int, tolerance: float) -> Matrix:
    """Normalise rows and columns in turn, while this is cheaper."""

    def sweep(state: tuple[Matrix, Array, Array]) -> tuple[Matrix, Array, Array]:
        log_plan, _, count = state
        log_plan = jax.lax.fori_loop(0, 2, _by_rows_and_columns, log_plan)
        return log_plan, _error(log_plan), count + 2

    state = log_plan, _error(log_plan), jnp.zeros((), int)
    unfinished = lambda state: (state[1] > tolerance) & (state[2] < min(most, SWEEPS))  # noqa: E731
    return jax.lax.while_loop(unfinished, sweep, state)[0]


def _by_rows_and_columns(_: Array, log_plan: Matrix) -> Matrix:
    return _normalised(log_plan - logsumexp(log_plan, axis=1, keepdims=True))


def _normalised(log_plan: Matrix) -> Matrix:
    """The plan with columns that sum to 1."""
    return log_plan - logsumexp(log_plan, axis=0, keepdims=True)


def _error(log_plan: Matrix) -> Array:
    return abs(jnp.exp(log_plan).sum(1) - 1).max()


def _newton(log_plan: Matrix) -> Matrix:
    """One Newton step towards rows that sum to 1."""
    plan = jnp.exp(log_plan)
    u, v = _potentials(plan, 1 - plan.sum(1), jnp.zeros(len(plan), plan.dtype))
    return _normalised(log_plan + u[:, None] + v[None])


def _potentials(plan: Matrix, rows: Vector, columns: Vector) -> tuple[Vector, Vector]:
    """How to change log P by u 1ᵀ + 1 vᵀ so that P's sums change by `rows` and `columns`.

    P 1 ∘ u + P v = rows and Pᵀ u + v = columns, for a plan whose columns sum to 1. Eliminating v,
    (diag(P 1) − P Pᵀ) u = rows − P columns. This is the Laplacian of a graph with weights P Pᵀ. Its
    diagonal is computed from the other entries, because the difference would lose all digits where
    P is almost a permutation. Constants u = −v change nothing; the mean of u is set to 0.
    """
    n = len(plan)
    joint = plan @ plan.T * (1 - jnp.eye(n, dtype=plan.dtype))
    tiny = jnp.finfo(plan.dtype).eps  # if the graph falls apart, its parts move independently
    laplacian = jnp.diag(joint.sum(1) + tiny) - joint + 1 / n
    u = jnp.linalg.solve(laplacian, rows - plan @ columns)
    return u, columns - plan.T @ u


@_sinkhorn.defjvp
def _derivative(iterations: int, tolerance: float, primals, tangents):
    # dP = P ∘ (dlogits − u 1ᵀ − 1 vᵀ), with potentials that leave the sums as they are.
    (logits,), (change,) = primals, tangents
    plan = _sinkhorn(logits, iterations, tolerance)
    weighted = plan * change
    u, v = _potentials(plan, weighted.sum(1), weighted.sum(0))
    return plan, weighted - plan * (u[:, None] + v[None])
