"""Quality against the number of integration steps, for each solver, and for plain training.

Samples are drawn with each solver and number of steps, with and without guidance. Beside them are
networks trained for as many gradient steps, from the prior and from unguided samples.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Key

from experiments.command import Config, choose
from experiments.measures.base import Point
from experiments.measures.quality import judge, train_on
from experiments.records import Figures
from experiments.sampling import GUIDANCE_RATES, SOLVERS, Sampling
from experiments.stages import Run
from wfm.errors import UserError
from wfm.flows import Flow, Integrator, MakeSolver
from wfm.manifolds import Point as Place
from wfm.weights import Weights

LARGEST_RATE = 0.1  # of a gradient step: much longer ones diverge
ADAM_RATE = 1e-3  # recommended by its authors (Kingma & Ba 2015, arXiv 1412.6980, Algorithm 1)


def check(run: Run) -> None:
    """Refuse unknown solvers, and guidance without a scale."""
    for name in run.config.steps.solvers:
        choose(SOLVERS, "steps.solvers", name)
    if not run.config.steps.guidance > 0:
        raise UserError(
            f"config.steps.guidance is {run.config.steps.guidance}; guided sampling needs a scale"
        )


def points(run: Run) -> Iterator[Point]:
    """Each way to make networks, after each number of steps, and the zoo."""
    c = run.config.steps
    ways: dict[str, Callable[[int], Weights]] = {}
    for solver in c.solvers:
        ways[solver] = partial(_drawn, run, solver, 0.0)
        ways[f"{solver} guided"] = partial(_drawn, run, solver, c.guidance)
    unguided = partial(_drawn, run, "euler", 0.0)
    adam = lambda steps: optax.adam(ADAM_RATE)  # noqa: E731
    sgd = lambda steps: optax.sgd(descent_rates(run.config, steps))  # noqa: E731
    prior = lambda steps: _prior(run)  # noqa: E731
    ways["adam from prior"] = partial(_descended, run, prior, adam)
    ways["adam from samples"] = partial(_descended, run, unguided, adam)
    ways["descent from samples"] = partial(_descended, run, unguided, sgd)
    ways["descent from prior"] = partial(_descended, run, prior, sgd)
    for n in c.numbers:
        for way, make in ways.items():
            yield Point({"way": way, "steps": n}, _judged(run, partial(make, n)))
    yield Point({"way": "zoo"}, _judged(run, lambda: run.seen.weights))


def _judged(run: Run, networks: Callable[[], Weights]) -> Callable[[Path], Figures]:
    return lambda folder: judge(run, networks())


def _drawn(run: Run, solver: str, guidance: float, steps: int) -> Weights:
    return _sampler(run, solver, guidance)(run.parts.keys["sampling"], steps)


def _prior(run: Run) -> Weights:
    p = run.parts
    draws = jax.random.split(p.keys["prior"], p.sampling.networks)
    return jax.vmap(p.initial.sample)(draws)


def _descended(
    run: Run, initial: Callable[[int], Weights], optimizer: Callable[[int], Any], steps: int
) -> Weights:
    """Networks after as many gradient steps on mini-batches of the training data."""
    p, batch = run.parts, run.config.sampling.guidance_batch
    schedule = dataclasses.replace(p.schedule, batch_size=batch)
    start, key = initial(steps), p.keys["sampling"]
    return train_on(p.network, p.task, start, optimizer(steps), key, schedule, steps)


def descent_rates(config: Config, steps: int) -> Callable[[ArrayLike], Array]:
    """Learning rates for `steps` gradient steps to descend as far as guided Euler steps."""
    scale = _scale(config, config.steps.guidance, steps)
    return lambda done: scale(jnp.asarray(done) / steps) / steps


def _scale(config: Config, guidance: float, steps: ArrayLike) -> Callable[[Array], Array]:
    """The scale of guidance as a function of t, at most as large as that many steps allow."""
    rate = GUIDANCE_RATES[config.sampling.guidance_rate]
    return rate(jnp.minimum(guidance, LARGEST_RATE * steps))


@lru_cache(maxsize=16)
def _sampler(run: Run, solver: str, guidance: float) -> Callable[[Key[Array, ""], int], Weights]:
    """A function from a key and a number of steps to new networks, compiled once."""

    @eqx.filter_jit
    def draw(how: Sampling, trained: Flow, key: Key[Array, ""], steps: Array) -> Weights:
        scale = _scale(run.config, guidance, steps) if guidance else 0.0
        guided = dataclasses.replace(how, guidance=scale).guided

        def one(key: Key[Array, ""]) -> Weights:
            point = sample_in_steps(guided(trained, key), key, SOLVERS[solver], steps)
            return run.parts.form.decode(point)

        return how.each(one, key)

    how, trained = run.parts.sampling, run.trained.flow
    return lambda key, steps: draw(how, trained, key, jnp.asarray(steps))


def sample_in_steps(flow: Flow, key: Key[Array, ""], solver: MakeSolver, steps: Array) -> Place:
    """As `flow.sample` in equal steps, whose number may be unknown at compilation."""
    how = Integrator(2, solver, lambda _: jnp.stack([0.0, 1 - 1 / steps, 1.0]))
    term = diffrax.ODETerm(lambda t, x, _: flow.velocity(t, x))

    def step(i: Array, x: Place) -> Place:
        times = jnp.stack([i, i + 1]) / steps
        return jax.tree.map(lambda a: a[-1], how.solve(flow.space, term, x, times).ys)

    end = steps - 1 if flow.prediction.lands else steps
    return flow.land(jax.lax.fori_loop(0, end, step, flow.prior.sample(key)), how)
