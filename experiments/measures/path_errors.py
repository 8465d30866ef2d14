"""Where on the path samples lose their quality: networks moved back to a time, and led on.

Trained networks, both those that the flow learned from and those that it never saw, are moved to
x_t along the path towards a draw from the prior. The flow then leads them back to t = 1. What they
have lost was lost after t. If unseen networks lose more than seen ones, the field has memorised; if
both lose the same, it underfits.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from experiments.measures.base import Point
from experiments.measures.quality import judge
from experiments.records import Figures
from experiments.sampling import Sampling
from experiments.stages import Run
from wfm.batching import first_rows, map_batched
from wfm.errors import UserError
from wfm.flows import Flow, FlowMatching, Integrator, OnPath, Spaces
from wfm.manifolds import Point as Place
from wfm.weights import WeightForm, Weights
from wfm.zoo import WeightSet

SETS: dict[str, Callable[[Run], WeightSet]] = {
    "seen": lambda run: run.seen.last(),
    "unseen": lambda run: run.held_out.last(),
}


def check(run: Run) -> None:
    """Refuse times off the path, and 1, where the path ends."""
    if not run.config.times or not all(0 <= t < 1 for t in run.config.times):
        raise UserError(
            f"config.times is {tuple(run.config.times)}; choose times from 0 to below 1"
        )


def points(run: Run) -> Iterator[Point]:
    """Every set of networks, starting from every time, and as trained."""
    for name in SETS:
        for t in run.config.times:
            yield Point({"set": name, "t": t}, partial(_from, run, name, t))
        as_trained = lambda folder, of=SETS[name]: judge(run, of(run).weights)  # noqa: E731
        yield Point({"set": name, "t": "as trained"}, as_trained)


def _from(run: Run, name: str, t: float, folder: Path) -> Figures:
    matching, flow, _ = run.trained
    how, form = run.parts.sampling, run.parts.form
    weights, losses = lead_on(matching, flow, how, form, _examples(run, name), jnp.asarray(t))
    return judge(run, weights) | {"flow_loss": float(losses.mean())}


@eqx.filter_jit
def lead_on(
    matching: FlowMatching,
    flow: Flow,
    how: Sampling,
    form: WeightForm,
    examples: tuple[Place, Place, Key[Array, " n"]],
    t: Float[Array, ""],
) -> tuple[Weights, Float[Array, " n"]]:
    """Networks at the ends of stacked examples' ways from t on, and the flow's losses at x_t."""

    def one(example: tuple[Place, Place, Key[Array, ""]]) -> tuple[Place, Array]:
        return led_on(matching, flow, how.integrator, *example, t)

    ends, losses = map_batched(one, examples, how.chunk)
    return jax.vmap(form.decode)(ends), losses


def led_on(
    matching: FlowMatching,
    flow: Flow,
    how: Integrator,
    x0: Place,
    x1: Place,
    key: Key[Array, ""],
    t: ArrayLike,
) -> tuple[Place, Array]:
    """Where the flow takes x_t of the path from `x0` to `x1`, in steps from t to 1, and its loss.

    The grid is that of `how`, shortened to the rest of the path.
    """
    x, velocity = matching.path.sample(flow.space, x0, x1, jnp.asarray(t), key)
    spaces, out = Spaces(flow.space, flow.target), flow.field(jnp.asarray(t), x)
    loss = flow.prediction.loss(spaces, OnPath(x, velocity, x1), out, matching.unit)
    rest = dataclasses.replace(how, grid=lambda steps: t + (1 - t) * how.grid(steps))
    return flow.integrate(x, rest), loss


@lru_cache(maxsize=len(SETS))
def _examples(run: Run, name: str) -> tuple[Place, Place, Key[Array, " n"]]:
    """x₀ and x₁, paired by the coupling, for as many networks as there are samples."""
    n = run.parts.sampling.networks
    few = first_rows(run.data(SETS[name](run)), n)
    return run.trained.matching.examples(few, run.parts.keys["sampling"])
