"""How a flow is integrated: the grid of times, the solver, and the choice of steps."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from wfm.errors import UserError
from wfm.flows.solver import MakeSolver, euler, rk4
from wfm.manifolds import Manifold, Point, Tangent

Grid = Callable[[int], Float[Array, " times"]]
MOST_ADAPTIVE_STEPS = 16**4


def uniform(steps: int) -> Float[Array, " times"]:
    """Equal steps from 0 to 1."""
    return jnp.linspace(0, 1, steps + 1)


def denser_early(steps: int) -> Float[Array, " times"]:
    """Steps that grow in proportion to their index: t = s²."""
    return uniform(steps) ** 2


def denser_late(steps: int) -> Float[Array, " times"]:
    """Steps that shrink in proportion to the number of steps left: t = 1 - (1 - s)²."""
    return 1 - (1 - uniform(steps)) ** 2


class Integrator(eqx.Module):
    """A number of steps, their grid and a solver; with a `controller`, adaptive steps instead.

    `solver` makes a solver for a space: `euler`, `midpoint`, `rk4`, `tsit5`, or
    `in_flat_space(any diffrax solver)`. An adaptive controller, such as
    `diffrax.PIDController(rtol=1e-3, atol=1e-4)`, needs a solver that estimates its error; steps
    and grid then only say where trajectories are saved.
    """

    steps: int = eqx.field(static=True, default=64)
    solver: MakeSolver = eqx.field(static=True, default=euler)
    grid: Grid = eqx.field(static=True, default=uniform)
    controller: diffrax.AbstractStepSizeController | None = None

    def __check_init__(self):
        if self.steps < 1:
            raise UserError(f"integration needs at least 1 step, got {self.steps}")

    def times(self) -> Float[Array, " times"]:
        """The grid from 0 to 1: the same numbers in all programs, because guides draw by them."""
        with jax.ensure_compile_time_eval():
            times = self.grid(self.steps)
            # Not at construction, perhaps at import: processes must find each other first.
            rising = isinstance(times, Tracer) or bool((times[1:] > times[:-1]).all())
        if not rising:
            raise UserError("the times of a grid must rise from each to the next")
        return times

    def halved(self) -> "Integrator":
        """Half as many steps of the same kind."""
        if self.controller is not None:
            raise UserError(
                "the error is found by halving the number of steps, and adaptive ones have none; "
                "give a fixed number of steps"
            )
        if self.steps < 2:
            raise UserError(f"the error is found by halving the steps, got {self.steps}")
        return Integrator(self.steps // 2, self.solver, self.grid)

    def solve(
        self,
        space: Manifold,
        terms: Any,
        y0: Point,
        times: Float[Array, " times"],
        wrap: Callable[[diffrax.AbstractSolver], diffrax.AbstractSolver] = lambda s: s,
        **options: Any,
    ) -> diffrax.Solution:
        """Integrate `terms` in `space` from the first to the last of `times`, in either direction.

        `wrap` changes the solver; `options` are those of `diffrax.diffeqsolve`.
        """
        if len(times) > 1:
            steps: dict[str, Any] = {
                "dt0": None,
                "stepsize_controller": self.controller or _OnGrid(times),
            }
        else:  # the only step is a landing: nothing is left to integrate
            steps = {"dt0": 1.0}
        # Only adaptive steps can fail. Programs that may raise call Python: see `_OnGrid`.
        options = {"throw": self.controller is not None} | options
        return diffrax.diffeqsolve(
            terms,
            wrap(self.solver(space)),
            t0=times[0],
            t1=times[-1],
            y0=y0,
            max_steps=MOST_ADAPTIVE_STEPS if self.controller else self.steps,
            **steps,
            **options,
        )

    def step(
        self, space: Manifold, velocity: Callable[[Any, Point], Tangent]
    ) -> Callable[[tuple[Any, Any], Point], Point]:
        """A single step of `solve`: maps a time interval and a point to the next point."""
        term, solver = diffrax.ODETerm(lambda t, x, _: velocity(t, x)), self.solver(space)

        def step(interval: tuple[Any, Any], x: Point) -> Point:
            start, end = interval
            state = solver.init(term, start, end, x, None)
            return solver.step(term, start, end, x, None, state, False)[0]

        return step


class _OnGrid(diffrax.StepTo):
    """Steps to given times, without the checks that `diffrax.StepTo` compiles.

    Those call back to Python, and programs that do so cannot be cached.
    """

    def wrap(self, direction: Any) -> "_OnGrid":
        return _OnGrid(self.ts * direction)

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        dt0: Any,
        args: Any,
        func: Any,
        error_order: Any,
    ) -> tuple[Any, int]:
        return self.ts[1], 2


DENSITY = Integrator(32, rk4, denser_late)
"""For likelihoods: an order and a grid for which landing loses little, even at end points."""
