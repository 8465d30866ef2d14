"""Noise along the path: samples that are not a function of their start."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
from jaxtyping import Array, Key

from wfm.draws import normal_like
from wfm.errors import UserError
from wfm.manifolds import Manifold, Point, Tangent
from wfm.priors import Prior

VelocityAt = Callable[[Any, Point], Tangent]
Wrap = Callable[[diffrax.AbstractSolver], diffrax.AbstractSolver]
BROWNIAN_RESOLUTION = 1e-4  # in time, finer than the steps of any grid in use


class Motion(NamedTuple):
    """What noise is added to: the motion of draws from `prior` in `space`.

    `independent`: whether x₀ carried no information about x₁ when the velocity was learned.
    """

    space: Manifold
    prior: Prior
    velocity: VelocityAt
    independent: bool


class Noise(eqx.Module):
    """A way to turn a flow's ordinary differential equation into a stochastic process."""

    @abc.abstractmethod
    def prepare(self, motion: Motion, x0: Point, key: Key[Array, ""]) -> tuple[Any, Wrap]:
        """Terms for diffrax, and a wrapper for the solver."""


class TangentNoise(Noise):
    """A Gaussian tangent step of standard deviation `scale` before each step with start ≤ t < end.

    This is the stochastic sampling of Erdogan (2025, arXiv 2504.03710). The scale is per step, so
    more steps mean more noise; the flow then contracts it again. In general the result is not a
    sample of p₁; `ScoreNoise` keeps the marginals.
    """

    scale: float = eqx.field(static=True)
    start: float = eqx.field(static=True, default=0.0)
    end: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if not self.scale >= 0:
            raise UserError(
                f"scale is a standard deviation and cannot be negative, got {self.scale}"
            )
        if not 0 <= self.start < self.end <= 1:
            raise UserError(
                f"noise needs a window with 0 ≤ start < end ≤ 1, got {self.start} to {self.end}"
            )

    def prepare(self, motion: Motion, x0: Point, key: Key[Array, ""]) -> tuple[Any, Wrap]:
        term = diffrax.ODETerm(lambda t, x, _: motion.velocity(t, x))
        return term, lambda solver: _NoisySolver(solver, motion.space, self, key)

    def add(self, space: Manifold, t: Any, x: Point, key: Key[Array, ""]) -> Point:
        """`x`, moved if `t` lies in the window."""
        scale = jnp.where((self.start <= t) & (t < self.end), self.scale, 0.0)
        step = space.frame(x, normal_like(key, x))
        return space.exp(x, jax.tree.map(lambda v: scale.astype(v.dtype) * v, step))


class _NoisySolver(diffrax.AbstractSolver):
    """A solver that adds noise before each of its steps."""

    solver: diffrax.AbstractSolver
    space: Manifold
    noise: TangentNoise
    key: Key[Array, ""]
    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar[Callable[..., diffrax.LocalLinearInterpolation]] = (
        diffrax.LocalLinearInterpolation
    )

    def order(self, terms: Any) -> int | None:
        return self.solver.order(terms)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        return self.key

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ):
        key, noise_key = jax.random.split(solver_state)
        noisy = self.noise.add(self.space, t0, y0, noise_key)
        # What the solver knew of the point before the noise no longer holds.
        fresh = self.solver.init(terms, t0, t1, noisy, args)
        y1, error, _, _, result = self.solver.step(terms, t0, t1, noisy, args, fresh, made_jump)
        return y1, error, {"y0": y0, "y1": y1}, key, result

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return self.solver.func(terms, t0, y0, args)


class ScoreNoise(Noise):
    """The stochastic equation with the flow's own marginals, for Gaussian priors in flat space.

    dx = [v + η (m + t v - x)] dt + √(2 η (1 - t)) s dW, for a prior N(m, s²) independent of the
    data. It is v + g²/2 ∇log p_t with g² = 2 η (1 - t) s² (Song et al. 2021, arXiv 2011.13456,
    section 4.3; Ma et al. 2024, 'SiT', arXiv 2401.08740, equation 5): on x_t = (1 - t) x₀ + t x₁
    the score is (m - E[x₀ | x_t]) / ((1 - t) s²), and E[x₀ | x_t] = x - t v. Exact for a path
    without noise of its own. `rate` is η, how often the noise is renewed in unit time.
    """

    rate: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if not self.rate >= 0:
            raise UserError(f"the rate of noise cannot be negative, got {self.rate}")

    def prepare(self, motion: Motion, x0: Point, key: Key[Array, ""]) -> tuple[Any, Wrap]:
        if not (motion.space.is_vector_space and motion.independent):
            raise UserError(
                "the score follows from the velocity only in flat space and with the independent "
                "coupling; use TangentNoise"
            )
        mean, std = motion.prior.gaussian()

        def drift(t: Any, x: Point, _: Any) -> Tangent:
            v = motion.velocity(t, x)
            correct = lambda v, x, m: v + self.rate * (m + t * v - x)  # noqa: E731
            return jax.tree.map(correct, v, x, mean)

        def diffusion(t: Any, x: Point, _: Any) -> lineax.DiagonalLinearOperator:
            size = jnp.sqrt(2 * self.rate * jnp.maximum(1 - t, 0))
            return lineax.DiagonalLinearOperator(
                jax.tree.map(lambda a, s: jnp.full_like(a, s) * size.astype(a.dtype), x, std)
            )

        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x0)
        brownian = diffrax.VirtualBrownianTree(0.0, 1.0, BROWNIAN_RESOLUTION, shapes, key)
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, brownian))
        return terms, lambda solver: solver
