"""Quality of samples against the number of integration steps, for each solver.

python -m experiments.steps --config=configs/steps.py:geometric --workdir=DIR [--config.KEY=VALUE …]

The flow is trained as by `experiments.uci`; its samples are drawn with each solver and number of
steps, with and without guidance. Beside them: networks trained for as many gradient
steps, from the prior and from unguided samples. The same command resumes.
`experiments.publish.steps` makes a page of it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Key

from experiments.command import Config, UsageError, choose, main
from experiments.experiment import Experiment
from experiments.judge import judge_of, train_on
from experiments.sampling import GUIDANCE_RATES, SOLVERS
from experiments.sharing import sharing
from experiments.uci import Trained, prepare
from experiments.workdir import Workdir
from wfm.flows import Field, Flow, Integrator, MakeSolver
from wfm.manifolds import Point
from wfm.training import MetricsLog
from wfm.weights import Weights

LARGEST_RATE = 0.1  # of a gradient step: much longer ones lead away
ADAM_RATE = 1e-3  # as its authors recommend (Kingma & Ba 2015, arXiv 1412.6980, Algorithm 1)
KEYS = ("way", "steps")


def run(config: Config, path: str) -> None:
    """Measure every point that the workdir does not hold yet."""
    for name in config.solvers:
        choose(SOLVERS, "solvers", name)
    if not config.guidance > 0:
        raise UsageError(f"config.guidance is {config.guidance}; guided sampling needs a scale")
    experiment = Experiment(config.base)
    workdir = Workdir(path, config)
    points = MetricsLog(workdir / "points.jsonl")
    done = {tuple(p[k] for k in KEYS) for p in points.read()}
    with sharing(config.shared, config.base, workdir.path):
        trained = prepare(experiment, workdir)
    judge = judge_of(experiment, trained)
    with workdir.stage("measure"):
        for way, steps, networks in _networks(config, experiment, trained):
            where = dict(zip(KEYS, (way, steps), strict=True))
            if tuple(where.values()) not in done:
                points.write(**where, **judge(networks()))
                print(where, flush=True)
    zoo = judge(trained.seen.weights)
    workdir.finish({"seed": config.base.seed, "zoo": zoo, "points": points.read()})


def _networks(
    config: Config, experiment: Experiment, trained: Trained
) -> Iterator[tuple[str, int, Callable[[], Weights]]]:
    """Ways to make networks, each with a number of steps and the work itself."""
    key = experiment.keys["sampling"]
    batch = config.base.sampling.guidance_batch
    of_guidance = dataclasses.replace(experiment.schedule, batch_size=batch)
    samplers = {
        (solver, scale): _sampler(config, experiment, trained, solver, scale)
        for solver in dict.fromkeys((*config.solvers, "euler"))
        for scale in (0.0, config.guidance)
    }

    @functools.cache
    def drawn(solver: str, steps: int, guidance: float) -> Weights:
        return samplers[solver, guidance](key, steps)

    def descended(initial: Weights, steps: int, optimizer: Any) -> Weights:
        """After as many gradient steps on mini-batches of the training data."""
        network, task = experiment.network, experiment.task
        return train_on(network, task, initial, optimizer, key, of_guidance, steps)

    def prior() -> Weights:
        draws = jax.random.split(experiment.keys["prior"], experiment.sampling.networks)
        return jax.vmap(experiment.initial.random)(draws)

    adam = optax.adam(ADAM_RATE)
    for n in config.steps:
        for solver in config.solvers:
            for name, scale in {"": 0.0, " guided": config.guidance}.items():
                yield solver + name, n, lambda s=solver, n=n, g=scale: drawn(s, n, g)
        yield "adam from prior", n, lambda n=n: descended(prior(), n, adam)
        unguided = lambda n=n: drawn("euler", n, 0.0)  # noqa: E731
        yield "adam from samples", n, lambda n=n, u=unguided: descended(u(), n, adam)
        sgd = optax.sgd(descent_rates(config, n))
        yield "descent from samples", n, lambda n=n, u=unguided, o=sgd: descended(u(), n, o)
        yield "descent from prior", n, lambda n=n, o=sgd: descended(prior(), n, o)


def descent_rates(config: Config, steps: int) -> Callable[[ArrayLike], Array]:
    """Learning rates with which so many gradient steps go as far down as guided Euler steps."""
    scale = _scale(config, config.guidance, steps)
    return lambda done: scale(jnp.asarray(done) / steps) / steps


def _scale(config: Config, guidance: float, steps: ArrayLike) -> Callable[[Array], Array]:
    """The scale of guidance as a function of t, no longer than that many steps allow."""
    rate = GUIDANCE_RATES[config.base.sampling.guidance_rate]
    return rate(jnp.minimum(guidance, LARGEST_RATE * steps))


def _sampler(
    config: Config, experiment: Experiment, trained: Trained, solver: str, guidance: float
) -> Callable[[Key[Array, ""], int], Weights]:
    """From a key and a number of steps to new networks, compiled once for all numbers."""
    how = experiment.sampling

    def one(key: Key[Array, ""], steps: Array) -> Weights:
        scale = _scale(config, guidance, steps) if guidance else 0.0
        flow = dataclasses.replace(how, guidance=scale).guided(trained.flow, key)
        point = sample_in_steps(flow, trained.field, key, SOLVERS[solver], steps)
        return experiment.form.decode(point)

    return jax.jit(lambda key, steps: how.each(lambda k: one(k, steps), key))


def sample_in_steps(
    flow: Flow, field: Field, key: Key[Array, ""], solver: MakeSolver, steps: Array
) -> Point:
    """As `flow.sample` in equal steps, whose number need not be known when this is compiled."""
    how = Integrator(2, solver, lambda _: jnp.stack([0.0, 1 - 1 / steps, 1.0]))
    term = diffrax.ODETerm(lambda t, x, _: flow.velocity(field, t, x))

    def step(i: Array, x: Point) -> Point:
        times = jnp.stack([i, i + 1]) / steps
        return jax.tree.map(lambda a: a[-1], how.solve(flow.space, term, x, times).ys)

    end = steps - 1 if flow.prediction.lands else steps
    return flow.land(field, jax.lax.fori_loop(0, end, step, flow.prior.sample(key)), how)


if __name__ == "__main__":
    main(run)
