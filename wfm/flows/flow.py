"""A flow: a trained field and the spaces it moves in, ready for sampling."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from wfm import artefacts
from wfm.errors import UserError
from wfm.flows import steps
from wfm.flows.field import Field, as_tree
from wfm.flows.guidance import Guided, Objective
from wfm.flows.integrator import DENSITY, Integrator
from wfm.flows.likelihood import Divergence, Exact, LogProb, integrate_divergence
from wfm.flows.noise import Motion, Noise
from wfm.flows.prediction import Prediction, Spaces, X1Prediction
from wfm.manifolds import Manifold, Point, Tangent
from wfm.manifolds.base import Scalar
from wfm.priors import Prior, standard

NAME = "flow"
CLASSES = artefacts.Classes(("wfm.manifolds", "wfm.priors", "wfm.flows", "wfm.fields"))


class Flow(eqx.Module):
    """A generative model: draws from a prior, carried by a field to where the data live.

    `FlowMatching` explains the parts, and `learn` trains the field. The field's parameters are
    leaves of this pytree, so `jit`, `vmap`, `grad` and `shard_map` take a flow as they take arrays:
    `jax.jit(lambda flow, key: flow.sample(key))` is one program for all parameters, and `vmap`
    treats stacked leaves as many flows. A plain function used as a field has no leaves
    (`Function`). `independent`: whether x₀ carried no information about x₁ in training, which
    `ScoreNoise` needs.
    """

    space: Manifold
    target: Manifold
    prior: Prior
    prediction: Prediction
    field: Field
    independent: bool = eqx.field(static=True)

    def __init__(
        self,
        space: Manifold,
        field: Field,
        target: Manifold | None = None,
        prior: Prior | None = None,
        prediction: Prediction | None = None,
        independent: bool = True,
    ):
        self.space = space
        self.target = target or space
        self.prior = prior or standard(self.target)
        self.prediction = prediction or X1Prediction()
        self.field = as_tree(field)
        self.independent = independent

    def guided(
        self,
        objective: Objective,
        scale: float | Callable[[Scalar], Scalar],
        key: Key[Array, ""],
        at_end_point: bool = True,
    ) -> "Flow":
        """This flow, guided down `objective`; see `Guided`."""
        guided: Any = Guided(self.prediction, objective, scale, key, at_end_point)
        return eqx.tree_at(lambda f: f.prediction, self, guided)

    def velocity(self, t: Any, x: Point) -> Tangent:
        """Velocity dx/dt at time `t` and point `x`."""
        spaces = Spaces(self.space, self.target)
        return self.prediction.velocity(spaces, t, x, self.field(t, x))

    def solve(
        self,
        x0: Point,
        integrator: Integrator | None = None,
        noise: Noise | None = None,
        key: Key[Array, ""] | None = None,
        **options: Any,
    ) -> diffrax.Solution:
        """The trajectory of `x0` from t=0 on, as a diffrax solution.

        It ends at t=1, or, if the prediction lands, at the last time of the grid but one.
        `options` are those of `diffrax.diffeqsolve`, such as `saveat`, `adjoint` and
        `progress_meter`. Noise needs a key.
        """
        integrator = integrator or Integrator()
        times = self._times(integrator)
        if noise is None:
            term = diffrax.ODETerm(lambda t, x, _: self.velocity(t, x))
            return integrator.solve(self.space, term, x0, times, **options)
        if key is None:
            raise UserError("noise is random: give a key")
        motion = Motion(self.space, self.prior, self.velocity, self.independent)
        terms, wrap = noise.prepare(motion, x0, key)
        return integrator.solve(self.space, terms, x0, times, wrap, **options)

    def integrate(
        self,
        x0: Point,
        integrator: Integrator | None = None,
        noise: Noise | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Point:
        """Where the flow carries `x0` from t=0 to t=1; by default in 64 Euler steps."""
        solution = self.solve(x0, integrator, noise, key)
        x = jax.tree.map(lambda a: a[-1], solution.ys)
        return self.land(x, integrator)

    def land(self, x: Point, integrator: Integrator | None = None) -> Point:
        """Where `x`, taken at the time that `solve` ends, lands in `target`."""
        t = self._times(integrator or Integrator())[-1]
        if self.prediction.lands:
            v = self.velocity(t, x)
            x = self.space.exp(x, jax.tree.map(lambda v: (1 - t) * v, v))
        return self.target.project(x)

    def sample(
        self,
        key: Key[Array, ""],
        integrator: Integrator | None = None,
        noise: Noise | None = None,
    ) -> Point:
        """A new point: a draw from the prior, carried by the flow."""
        x0, key = self._start(key)
        return self.integrate(x0, integrator, noise, key)

    def trajectory(
        self,
        key: Key[Array, ""],
        integrator: Integrator | None = None,
        noise: Noise | None = None,
    ) -> Point:
        """As `sample`, but with stacked points at all times of the grid; the last has landed."""
        integrator = integrator or Integrator()
        x0, key = self._start(key)
        saveat = diffrax.SaveAt(ts=self._times(integrator))
        points = self.solve(x0, integrator, noise, key, saveat=saveat).ys
        end = self.land(jax.tree.map(lambda a: a[-1], points), integrator)
        kept = jax.tree.map(lambda a: a[: integrator.steps], points)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), kept, end)

    def log_prob(
        self,
        x: Point,
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Scalar:
        """Log-density of the flow at `x`, in nats, by going back to the prior.

        It is the density of the differential equation, with respect to the volume of `space`.
        `sampler_log_prob` gives that of samples drawn in finitely many steps. The default is 32
        steps of `rk4`, denser late, with the `Exact` divergence; `Hutchinson` needs a key. If the
        prediction lands, the density is that at the last time of the grid but one. Raises an error
        if samples or the prior have no density, or if guidance draws batches.
        """
        self._check_density()
        if self.prediction.jumps(x):
            raise UserError(
                "the guide's objective draws a batch at every time, so its flow is no differential "
                "equation, and other steps lead elsewhere; use sampler_log_prob with the "
                "integrator that samples, or an objective that does not use its key"
            )
        integrator = integrator or DENSITY
        times = self._times(integrator)[::-1]
        x0, change = integrate_divergence(
            self.space, self.velocity, x, integrator, times, divergence or Exact(), key
        )
        return self.prior.log_prob(x0) + change

    def log_prob_with_error(
        self,
        x: Point,
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
        key: Key[Array, ""] | None = None,
    ) -> LogProb:
        """As `log_prob`, with an error: twice the difference from half as many steps.

        Once steps are short enough for their order p, half as many steps differ by 2ᵖ - 1 times the
        integration error. The error of `Hutchinson`'s probes comes on top: their spread over keys.
        """
        integrator = integrator or DENSITY
        value, coarse = (
            self.log_prob(x, how, divergence, key) for how in (integrator, integrator.halved())
        )
        return LogProb(value, 2 * jnp.abs(value - coarse))

    def sample_with_log_prob(
        self,
        key: Key[Array, ""],
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
    ) -> tuple[Point, Scalar]:
        """The draw of `sample` with this key, and its log-density as in `sampler_log_prob`."""
        x0, key = self._start(key)
        sampler = self._sampler(integrator or Integrator())
        x, change = steps.forth(sampler, x0, divergence or Exact(), key)
        return self.target.project(x), steps.known(self.prior.log_prob(x0) - change)

    def sampler_log_prob(
        self,
        x: Point,
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Scalar:
        """Log-density at `x` of the samples that `sample` draws with this integrator.

        The sampler's own steps, landing included, are undone by Newton's method, at the same times
        and with the same guidance batches, and their log-determinants are subtracted. The result is
        NaN, or an error if the call is not compiled, if no start is found that leads to `x`, if
        rounding `x` changes the density by a hundredth, or if a step is so long that several points
        may go to one. `Exact` takes derivatives with respect to all coordinates. `Hutchinson`
        estimates, works for short steps only, and needs a key.
        """
        sampler = self._sampler(integrator or Integrator())
        return steps.log_prob(sampler, self.prior.log_prob, x, divergence or Exact(), key)

    def save(self, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Write the flow to a folder of its own, or to a file `….zip`; `wfm.load_flow` reads both.

        `parameters.safetensors` holds all arrays and `flow.json` the rest, including `about`:
        names, numbers and arrays that belong to the flow, such as its task and the network that its
        data were aligned to (`wfm.flows.about`). They are written completely or not at
        all, and the same flow gives the same bytes. Code cannot be saved, and `ValueError` names
        it: guidance objectives, plain functions, classes from elsewhere.
        """
        parts = {"flow": self, "about": dict(about or {})}
        artefacts.write(path, NAME, parts, CLASSES)

    def _start(self, key: Key[Array, ""]) -> tuple[Point, Key[Array, ""]]:
        """A draw from the prior, and a key for the steps that follow."""
        return self.prior.sample(key), jax.random.fold_in(key, 1)

    def _check_density(self) -> None:
        if self.space.dim != self.target.dim:
            raise UserError(
                f"samples are projected from {self.space.dim} dimensions to {self.target.dim}, so "
                "they have no density; use a flow whose paths run where the data live"
            )
        like = jax.eval_shape(self.prior.sample, jax.random.key(0))
        jax.eval_shape(self.prior.log_prob, like)  # raises before any work if there is none

    def _sampler(self, integrator: Integrator) -> steps.Sampler:
        """The steps that `integrate` takes."""
        self._check_density()
        if integrator.controller is not None:
            raise UserError(
                "adaptive steps depend on where they start, so they are no map with a density; "
                "give a fixed number of steps, or use log_prob for the flow's own density"
            )
        step = integrator.step(self.space, self.velocity)
        times = self._times(integrator)
        land = partial(self.land, integrator=integrator) if self.prediction.lands else None
        return steps.Sampler(self.space, step, times[:-1], times[1:], land)

    def _times(self, integrator: Integrator) -> Float[Array, " times"]:
        """The times from 0 to where the solver stops."""
        times = integrator.times()
        return times[:-1] if self.prediction.lands else times
