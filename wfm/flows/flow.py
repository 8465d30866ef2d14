"""A flow: geometry, prior, path, coupling, times and prediction, composed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from wfm.flows import steps
from wfm.flows.coupling import Coupling, Independent
from wfm.flows.integrator import DENSITY, Integrator
from wfm.flows.likelihood import Divergence, Exact, LogProb, integrate_divergence
from wfm.flows.noise import Noise
from wfm.flows.path import BetaTime, GeodesicPath
from wfm.flows.prediction import EndPoint, Prediction, Unit
from wfm.flows.prior import Prior, Reference
from wfm.manifolds import Manifold, Point, Tangent
from wfm.manifolds.base import Scalar

Field = Callable[[Any, Point], Point]


class Flow(eqx.Module):
    """Flow matching of data on a manifold: all a field is trained with, and used for.

    `space` is where paths run and samples are integrated, `target` where the data live (by
    default the same). So the three flows of Erdogan (2025, arXiv 2504.03710) are, for weights
    whose canonical form lives on `m`: Euclidean `Flow(flat)`, Geometric `Flow(m)`, Normalized
    `Flow(m.ambient(), target=m, prior=Reference(m))`.

    A field is any function `field(t, x)` from a time and a point to arrays of the same structure,
    whose meaning `prediction` fixes. `unit`, a pytree of positive numbers like a point, measures
    each part of the loss in its own unit.
    """

    space: Manifold
    target: Manifold
    prior: Prior
    path: GeodesicPath
    coupling: Coupling
    time: BetaTime
    prediction: Prediction
    unit: Unit

    def __init__(
        self,
        space: Manifold,
        target: Manifold | None = None,
        prior: Prior | None = None,
        path: GeodesicPath | None = None,
        coupling: Coupling | None = None,
        time: BetaTime | None = None,
        prediction: Prediction | None = None,
        unit: Unit = None,
    ):
        self.space = space
        self.target = target or space
        self.prior = prior or Reference(self.target)
        self.path = path or GeodesicPath()
        self.coupling = coupling or Independent()
        self.time = time or BetaTime()
        self.prediction = prediction or EndPoint()
        self.unit = unit

    def loss(self, field: Field, batch: Any, key: Key[Array, ""]) -> Scalar:
        """Mean loss over stacked data points (conditional flow matching, Lipman et al. 2023).

        The coupling says what a batch is: stacked points, or pairs where it is `Given`.
        """
        examples = self.examples(batch, key)
        return jax.vmap(lambda example: self.example_loss(field, *example))(examples).mean()

    def examples(self, batch: Any, key: Key[Array, ""]) -> tuple[Point, Point, Key[Array, " n"]]:
        """Stacked x₀ and x₁ of a batch, as the coupling pairs them, and a key for each pair."""
        pair_key, key = jax.random.split(key)
        x0, x1 = self.coupling.pair(self.space, self.prior, batch, pair_key)
        return x0, x1, jax.random.split(key, len(jax.tree.leaves(x1)[0]))

    def example_loss(self, field: Field, x0: Point, x1: Point, key: Key[Array, ""]) -> Scalar:
        """Loss of one pair, at a random time."""
        time_key, noise_key = jax.random.split(key)
        t = self.time.sample(time_key)
        x, v = self.path.sample(self.space, x0, x1, t, noise_key)
        out = field(t, x)
        return self.prediction.loss(self.space, self.target, x, x1, v, out, self.unit)

    def velocity(self, field: Field, t: Any, x: Point) -> Tangent:
        """Velocity dx/dt at time `t` in `x`."""
        return self.prediction.velocity(self.space, self.target, t, x, field(t, x))

    def solve(
        self,
        field: Field,
        x0: Point,
        integrator: Integrator | None = None,
        noise: Noise | None = None,
        key: Key[Array, ""] | None = None,
        **options: Any,
    ) -> diffrax.Solution:
        """The way of `x0` from t=0 on, as a solution of diffrax.

        It ends at t=1, or with a prediction that lands at the last time of the grid but one.
        `options` are those of `diffrax.diffeqsolve`, such as `saveat`, `adjoint` and
        `progress_meter`. Noise needs a key.
        """
        integrator = integrator or Integrator()
        velocity = partial(self.velocity, field)
        times = self._times(integrator)
        if noise is None:
            term = diffrax.ODETerm(lambda t, x, _: velocity(t, x))
            return integrator.solve(self.space, term, x0, times, **options)
        if key is None:
            raise ValueError("noise is random: give a key")
        terms, wrap = noise.prepare(self.space, self.prior, self.coupling, velocity, x0, key)
        return integrator.solve(self.space, terms, x0, times, wrap, **options)

    def integrate(
        self,
        field: Field,
        x0: Point,
        integrator: Integrator | None = None,
        noise: Noise | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Point:
        """Where the flow carries `x0` (t=0) until t=1; by default in 64 Euler steps."""
        solution = self.solve(field, x0, integrator, noise, key)
        x = jax.tree.map(lambda a: a[-1], solution.ys)
        return self.land(field, x, integrator)

    def land(self, field: Field, x: Point, integrator: Integrator | None = None) -> Point:
        """Where `x`, at the time that `solve` ends, arrives where the data live."""
        t = self._times(integrator or Integrator())[-1]
        if self.prediction.lands:
            v = self.velocity(field, t, x)
            x = self.space.exp(x, jax.tree.map(lambda v: (1 - t) * v, v))
        return self.target.project(x)

    def sample(
        self,
        field: Field,
        key: Key[Array, ""],
        integrator: Integrator | None = None,
        noise: Noise | None = None,
    ) -> Point:
        """A new point: a draw of the prior, carried by the flow."""
        x0, key = self._start(key)
        return self.integrate(field, x0, integrator, noise, key)

    def trajectory(
        self,
        field: Field,
        key: Key[Array, ""],
        integrator: Integrator | None = None,
        noise: Noise | None = None,
    ) -> Point:
        """As `sample`, but stacked points at all times of the grid, the last one landed."""
        integrator = integrator or Integrator()
        x0, key = self._start(key)
        saveat = diffrax.SaveAt(ts=self._times(integrator))
        points = self.solve(field, x0, integrator, noise, key, saveat=saveat).ys
        end = self.land(field, jax.tree.map(lambda a: a[-1], points), integrator)
        kept = jax.tree.map(lambda a: a[: integrator.steps], points)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), kept, end)

    def log_prob(
        self,
        field: Field,
        x: Point,
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Scalar:
        """Log-density of the flow at `x`, in nats, by going back to the prior.

        That of the differential equation, with respect to the volume of `space`; that of samples
        drawn in finitely many steps is `sampler_log_prob`. By default 32 steps of `rk4`, denser
        late, and the `Exact` divergence; `Hutchinson` needs a key. With a prediction that lands,
        the density is that of the last time of the grid but one. Raises where samples or prior
        have no density, and where guidance draws batches.
        """
        self._check_density()
        if self.prediction.jumps(x):
            raise ValueError(
                "the guide's objective draws a batch at every time, so its flow is no differential "
                "equation, and other steps lead elsewhere; use sampler_log_prob with the "
                "integrator that samples, or an objective that does not use its key"
            )
        integrator = integrator or DENSITY
        times = self._times(integrator)[::-1]
        x0, change = integrate_divergence(
            self.space,
            partial(self.velocity, field),
            x,
            integrator,
            times,
            divergence or Exact(),
            key,
        )
        return self.prior.log_prob(x0) + change

    def log_prob_with_error(
        self,
        field: Field,
        x: Point,
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
        key: Key[Array, ""] | None = None,
    ) -> LogProb:
        """As `log_prob`, with an error: twice as much as half the steps differ.

        Once steps are short enough for their order p, half of them differ by 2ᵖ - 1 times the error
        of integration. That of `Hutchinson`'s probes comes on top: it is the spread over keys.
        """
        integrator = integrator or DENSITY
        value, coarse = (
            self.log_prob(field, x, how, divergence, key)
            for how in (integrator, integrator.halved())
        )
        return LogProb(value, 2 * jnp.abs(value - coarse))

    def sample_with_log_prob(
        self,
        field: Field,
        key: Key[Array, ""],
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
    ) -> tuple[Point, Scalar]:
        """What `sample` draws with this key, and its log-density as in `sampler_log_prob`."""
        x0, key = self._start(key)
        sampler = self._sampler(field, integrator or Integrator())
        x, change = steps.forth(sampler, x0, divergence or Exact(), key)
        return self.target.project(x), _known(self.prior.log_prob(x0) - change)

    def sampler_log_prob(
        self,
        field: Field,
        x: Point,
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Scalar:
        """Log-density, at `x`, of what `sample` returns with this integrator, landing included.

        The very steps of the sampler are undone, at their times and with their batches of guidance,
        each by Newton's method, and its log-determinant subtracted. NaN, or an error where the
        call is not compiled, if no start is found that leads to `x`, if rounding `x` changes the
        density by a hundredth, or if a step is so long there that several points may go to one.
        `Exact` takes derivatives by all coordinates;
        `Hutchinson` estimates, for short steps only, and needs a key.
        """
        sampler = self._sampler(field, integrator or Integrator())

        def at(x: Point) -> Scalar:
            x0, change = steps.back(sampler, x, divergence or Exact(), key)
            return self.prior.log_prob(x0) - change

        both = jax.tree.map(lambda *a: jnp.stack(a), x, steps.rounded(self.space, x))
        value, near = jax.vmap(at)(both)
        # Where the sampler brings together what number formats keep apart no longer, x says
        # nothing of its start.
        same = jnp.abs(value - near) <= 0.01 * jnp.maximum(1, jnp.abs(value))
        return _known(jnp.where(same, value, jnp.nan))

    def _start(self, key: Key[Array, ""]) -> tuple[Point, Key[Array, ""]]:
        """A draw of the prior, and a key for what follows."""
        return self.prior.sample(key), jax.random.fold_in(key, 1)

    def _check_density(self) -> None:
        if self.space.dim != self.target.dim:
            raise ValueError(
                f"samples are projected from {self.space.dim} dimensions to {self.target.dim}, so "
                "they have no density; use a flow whose paths run where the data live"
            )

    def _sampler(self, field: Field, integrator: Integrator) -> steps.Sampler:
        """The steps that `integrate` takes."""
        self._check_density()
        if integrator.controller is not None:
            raise ValueError(
                "adaptive steps depend on where they start, so they are no map with a density; "
                "give a fixed number of steps, or use log_prob for the flow's own density"
            )
        step = integrator.step(self.space, partial(self.velocity, field))
        times = self._times(integrator)
        land = partial(self.land, field, integrator=integrator) if self.prediction.lands else None
        return steps.Sampler(self.space, step, times[:-1], times[1:], land)

    def _times(self, integrator: Integrator) -> Float[Array, " times"]:
        """From 0 to where the solver stops."""
        times = integrator.times()
        return times[:-1] if self.prediction.lands else times


def _known(log_prob: Scalar) -> Scalar:
    """`log_prob`, unless it is known to be NaN now, not when compiled code runs."""
    if not isinstance(log_prob, Tracer) and jnp.isnan(log_prob):
        raise ValueError(
            "the sampler has no known density here: a step is too long to be undone, may take "
            "several points to one, or rounding hides where it started; take more steps, guide "
            "less, use Exact for Hutchinson, or double precision"
        )
    return log_prob
