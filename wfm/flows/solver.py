"""Integrators on manifolds, as diffrax solvers."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax

from wfm.manifolds import Manifold


class GeodesicEuler(diffrax.AbstractSolver):
    """x ← exp_x(Δt · v(t, x)): Euler's method along geodesics, of first order.

    Crouch & Grossman (1993); in flat space it is Euler's method. Values between steps are
    interpolated in ambient coordinates, so save at steps where that matters.
    """

    manifold: Manifold
    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.LocalLinearInterpolation]] = (
        diffrax.LocalLinearInterpolation
    )

    def order(self, terms: Any) -> int:
        return 1

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        args: Any,
        solver_state: None,
        made_jump: Any,
    ):
        move = terms.vf_prod(t0, y0, args, terms.contr(t0, t1))
        y1 = self.manifold.exp(y0, move)
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)
