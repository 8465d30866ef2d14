"""Integrators on manifolds, as diffrax solvers."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError
from wfm.manifolds import Manifold

MakeSolver = Callable[[Manifold], diffrax.AbstractSolver]
"""A solver of diffrax for paths on a manifold, such as `euler` or `tsit5` makes."""


class Tableau(NamedTuple):
    """Coefficients of an explicit Runge–Kutta method; `error` is None without an estimate.

    Stage i is evaluated at t + c[i]·Δt, from the slopes of earlier stages weighted by a[i].
    """

    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    error: tuple[float, ...] | None = None

    @property
    def nodes(self) -> np.ndarray:
        return np.array([sum(row) for row in self.a])

    @property
    def matrix(self) -> np.ndarray:
        n = len(self.b)
        return np.array([(*row, *(0.0,) * (n - len(row))) for row in self.a])


def _from_diffrax(solver: diffrax.AbstractERK) -> Tableau:
    """The coefficients of an explicit Runge–Kutta method of diffrax."""
    t: Any = solver.tableau
    rows = ((), *(tuple(row.tolist()) for row in t.a_lower))
    order: Any = solver.order(diffrax.ODETerm(lambda t, y, args: y))
    return Tableau(order, rows, tuple(t.b_sol.tolist()), tuple(t.b_error.tolist()))


EULER = Tableau(1, ((),), (1.0,))
MIDPOINT = Tableau(2, ((), (0.5,)), (0.0, 1.0))
RK4 = Tableau(4, ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
TSIT5 = _from_diffrax(diffrax.Tsit5())


class GeodesicRungeKutta(diffrax.AbstractItoSolver):
    """An explicit Runge–Kutta method in the normal coordinates of each step's first point.

    With x = exp_{x₀}(u), x' = v(t, x) becomes u' = (d log_{x₀})_x v(t, x). This is an equation in
    the tangent space at x₀, where slopes can be added; a step there keeps the method's order
    (Munthe-Kaas 1998, 'Runge–Kutta methods on Lie groups'; Hairer, Lubich & Wanner 2006,
    'Geometric Numerical Integration', IV.5.3 and IV.8). In flat space it is the method itself.
    If the method estimates its error, step-size controllers work too. Noise terms must be additive,
    like those of `ScoreNoise`. Values between steps are interpolated in ambient coordinates, so
    save at steps if that matters.
    """

    manifold: Manifold
    tableau: Tableau = eqx.field(static=True, default=EULER)
    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.LocalLinearInterpolation]] = (
        diffrax.LocalLinearInterpolation
    )

    def order(self, terms: Any) -> int:
        return self.tableau.order

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: None, made_jump: Any
    ) -> tuple[Any, Any, dict[str, Any], None, diffrax.RESULTS]:
        control = terms.contr(t0, t1)
        n = len(self.tableau.b)
        if n == 1:  # the slope at y0 itself, where the derivative of the logarithm is the identity
            y1 = self.manifold.exp(y0, terms.vf_prod(t0, y0, args, control))
            return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

        def stage(slopes: Any, row: Any):
            i, weights, node = row
            x = self.manifold.exp(y0, _combine(weights, slopes))
            move = terms.vf_prod(t0 + node * (t1 - t0), x, args, control)
            _, slope = jax.jvp(partial(self.manifold.log, y0), (x,), (move,))
            return jax.tree.map(lambda s, new: s.at[i].set(new), slopes, slope), None

        slopes = jax.tree.map(lambda a: jnp.zeros((n, *a.shape), a.dtype), y0)
        rows = (np.arange(n), self.tableau.matrix, self.tableau.nodes)
        rows = jax.tree.map(jnp.asarray, rows)
        slopes, _ = jax.lax.scan(stage, slopes, rows)
        y1 = self.manifold.exp(y0, _combine(jnp.array(self.tableau.b), slopes))
        error = self.tableau.error
        y_error = None if error is None else _combine(jnp.array(error), slopes)
        return y1, y_error, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)


def _combine(weights: Any, slopes: Any) -> Any:
    return jax.tree.map(lambda s: jnp.tensordot(weights.astype(s.dtype), s, axes=1), slopes)


def euler(space: Manifold) -> diffrax.AbstractSolver:
    """x ← exp_x(Δt · v(t, x)): first order, one evaluation per step."""
    return GeodesicRungeKutta(space, EULER)


def midpoint(space: Manifold) -> diffrax.AbstractSolver:
    """Second order, two evaluations per step."""
    return GeodesicRungeKutta(space, MIDPOINT)


def rk4(space: Manifold) -> diffrax.AbstractSolver:
    """Fourth order, four evaluations per step."""
    return GeodesicRungeKutta(space, RK4)


def tsit5(space: Manifold) -> diffrax.AbstractSolver:
    """Fifth order (Tsitouras 2011), seven evaluations; estimates its error, for adaptive steps."""
    return GeodesicRungeKutta(space, TSIT5)


def in_flat_space(solver: diffrax.AbstractSolver) -> MakeSolver:
    """Any diffrax solver, for spaces whose points may be added."""

    def make(space: Manifold) -> diffrax.AbstractSolver:
        if not space.is_vector_space:
            raise UserError(
                f"{type(solver).__name__} adds points and velocities, which would leave the "
                f"{type(space).__name__}; use euler, midpoint, rk4 or tsit5 of wfm.flows"
            )
        return solver

    return make
