"""Drawing networks from a trained flow, as `config.sampling` specifies."""

from collections.abc import Callable, Iterator
from functools import partial

import equinox as eqx
import jax
from jax.sharding import Mesh
from jax.tree_util import Partial
from jaxtyping import Array, Key

from experiments.command import Config, choose
from wfm.batching import map_batched
from wfm.devices import spread
from wfm.flows import (
    Flow,
    Integrator,
    Noise,
    Objective,
    TangentNoise,
    denser_early,
    denser_late,
    euler,
    midpoint,
    rk4,
    uniform,
)
from wfm.tasks import BatchLoss, Split
from wfm.weights import WeightForm, Weights

SOLVERS = {"euler": euler, "midpoint": midpoint, "rk4": rk4}
GRIDS = {"uniform": uniform, "denser_early": denser_early, "denser_late": denser_late}
GUIDED_AT = {"end_point": True, "x_t": False}
# Partials, so that equal rates are one program.
GUIDANCE_RATES = {
    "constant": partial(Partial, lambda scale, t: scale),
    # The noise of the last batches fades …
    "falling": partial(Partial, lambda scale, t: scale * (1 - t)),
    # … and the first guess is not followed.
    "hill": partial(Partial, lambda scale, t: 4 * scale * t * (1 - t)),
}


class Sampling(eqx.Module):
    """Solver, grid, noise, and guidance by the loss on mini-batches of training data."""

    integrator: Integrator
    noise: Noise | None
    objective: Objective
    guidance: float | Callable[[Array], Array]
    at_end_point: bool
    networks: int
    chunk: int
    mesh: Mesh | None = eqx.field(static=True)

    @classmethod
    def of(
        cls, config: Config, form: WeightForm, data: Split, mesh: Mesh | None = None
    ) -> "Sampling":
        """The settings of `config.sampling`."""
        c = config.sampling
        solver = choose(SOLVERS, "sampling.solver", c.solver)
        grid = choose(GRIDS, "sampling.grid", c.grid)
        noise = TangentNoise(c.noise, start=c.noise_start)
        rate = choose(GUIDANCE_RATES, "sampling.guidance_rate", c.guidance_rate)
        return cls(
            integrator=Integrator(c.steps, solver, grid),
            noise=noise if c.noise else None,
            objective=BatchLoss(form.spec, data, c.guidance_batch, c.guidance_input_noise),
            guidance=rate(c.guidance) if c.guidance else 0.0,
            at_end_point=choose(GUIDED_AT, "sampling.guidance_at", c.guidance_at),
            networks=c.networks,
            chunk=c.chunk,
            mesh=mesh,
        )

    def sampler(self, flow: Flow, form: WeightForm) -> Callable[[Key[Array, ""]], Weights]:
        """A function from a key to new networks: one compiled call, on `chunk` at a time."""
        return partial(_draw, self, flow, form)

    def trajectories(self, flow: Flow, form: WeightForm, key: Key[Array, ""]) -> Iterator[Weights]:
        """Networks with all grid times along their second axis, `chunk` at a time."""
        keys = jax.random.split(key, self.networks)
        for start in range(0, self.networks, self.chunk):
            yield _ways(self, flow, form, keys[start : start + self.chunk])

    def each(self, one: Callable[[Key[Array, ""]], Weights], key: Key[Array, ""]) -> Weights:
        """`one` for each network, `chunk` at a time on each device."""

        def some(keys: Key[Array, " k"]) -> Weights:
            return map_batched(one, keys, self.chunk)

        return spread(some, self.mesh)(jax.random.split(key, self.networks))

    def guided(self, flow: Flow, key: Key[Array, ""]) -> Flow:
        """The flow of one network, with its own mini-batches."""
        if not self.guidance:
            return flow
        key = jax.random.fold_in(key, 2)
        return flow.guided(self.objective, self.guidance, key, self.at_end_point)


@eqx.filter_jit
def _draw(how: Sampling, flow: Flow, form: WeightForm, key: Key[Array, ""]) -> Weights:
    """Networks from `flow`; it and the data that guide are arguments of the program."""

    def one(key: Key[Array, ""]) -> Weights:
        return form.decode(how.guided(flow, key).sample(key, how.integrator, how.noise))

    return how.each(one, key)


@eqx.filter_jit
def _ways(how: Sampling, flow: Flow, form: WeightForm, keys: Key[Array, " n"]) -> Weights:
    """All grid times of networks from `flow`, with the same arguments."""

    def one(key: Key[Array, ""]) -> Weights:
        points = how.guided(flow, key).trajectory(key, how.integrator, how.noise)
        return jax.vmap(form.decode)(points)

    return jax.vmap(one)(keys)
