"""A flow over networks of one task, used for another task and for other widths.

python -m experiments.transfer --config=configs/transfer.py --workdir=runs/transfer

The flow is trained as by `experiments.mnist`. For the other task its samples are guided by that
task's loss, and trained plainly for as many gradients, beside other initial weights. For the
flow's own task networks of other widths are drawn, without training anything again. The same
command resumes. `experiments.publish.transfer` makes a page of it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from experiments import mnist
from experiments.choices import ZOO_RATES
from experiments.command import Config, UsageError, choose, main
from experiments.experiment import Experiment
from experiments.judge import Judge, judge_of, quality, train_on
from experiments.sampling import GUIDANCE_RATES, GUIDED_AT
from experiments.sharing import sharing
from experiments.uci import prepare
from experiments.workdir import Workdir
from wfm.fields import functional
from wfm.flows import Field, Flow, Integrator, euler
from wfm.training import MetricsLog
from wfm.weights import Weights, WeightSpec
from wfm.zoo import Schedule

MOMENTUM = 0.9  # of plain training, as that of the zoo


class Point(NamedTuple):
    """One set of networks: where it belongs, and how it was made."""

    part: str
    way: str
    width: int
    gradients: int  # that each network has had of the task it is judged by
    setting: float  # scale of guidance or rate of training, 0 where there is none


Found = tuple[Point, Callable[[], Weights]]


def run(config: Config, path: str) -> None:
    """Measure every point that the workdir does not hold yet."""
    lab = Lab(config)
    workdir = Workdir(path, config)
    lab.prepare(workdir)
    log = MetricsLog(workdir / "points.jsonl")
    done = {tuple(p[name] for name in Point._fields) for p in log.read()}
    with workdir.stage("measure"):
        for judge, points in lab.parts():
            for point, networks in points:
                if point not in done:
                    found = judge(networks())
                    log.write(**point._asdict(), **found)
                    print(f"{point}: {found['accuracy']:.4f}, {found['average']:.4f}", flush=True)
    workdir.finish({"seed": config.base.seed, "points": log.read()})


class Lab:
    """The flow's own experiment, the other task, and all sets of networks to be judged."""

    def __init__(self, config: Config):
        self.config = config
        self.own = mnist.check(config.base)
        self.other = _changed(config.base, task=config.task)
        if len(config.base.hidden) != 1:
            raise UsageError(
                f"config.base.hidden is {config.base.hidden}; transfer to other widths needs one "
                "hidden layer"
            )
        self.wide = [_changed(config.base, hidden=(width,)) for width in config.widths]
        if self.own.network.groups != self.other.network.groups:
            raise UsageError(
                f"config.task is {config.task!r}, whose inputs or classes are not as many as those "
                "of config.base.task; choose a task of images as large, of as many classes"
            )

    def prepare(self, workdir: Workdir) -> None:
        """Train the flow, or read it."""
        with sharing(self.config.shared, self.config.base, workdir.path):
            self.trained = prepare(self.own, workdir)

    def parts(self) -> Iterator[tuple[Judge, Iterator[Found]]]:
        """Points to measure, each with how they are judged."""
        judge = self._judge(self.other)
        yield judge, self.reference(self.other, "task")
        yield judge, self.guided(self.other, self._native, "task")
        yield judge, self.plain(self.other, self._initial(self.other), "task")
        for wide in self.wide:
            judge, start = self._judge(wide), self._widened(wide)
            yield judge, self.reference(wide, "width")
            yield judge, self.guided(wide, start, "width", ("end_point",))
            yield judge, self.plain(wide, self._of_width(wide), "width")

    def _judge(self, of: Experiment) -> Judge:
        """Quality, and novelty where it is a question: other tasks and widths are new anyway."""
        if of.config == self.own.config:
            return judge_of(of, self.trained)
        return partial(quality, of.network, of.task)

    @cached_property
    def _samples(self) -> Weights:
        return self._draw(self.own, self._native, 0, 0.0, "end_point")

    @property
    def _native(self) -> tuple[Flow, Field]:
        return self.trained.flow, self.trained.field

    def reference(self, judge: Experiment, part: str) -> Iterator[Found]:
        """Networks trained as long and as well as those of the zoo."""
        few = _changed(judge.config, zoo={"networks": judge.config.sampling.networks})
        steps, rate = few.schedule.steps(len(few.task.train)), few.config.zoo.learning_rate
        point = Point(part, "trained as the zoo", _width(judge), steps, rate)
        yield point, lambda: few.make_zoo().last().weights

    def guided(
        self, judge: Experiment, start: tuple[Flow, Field], part: str, places=tuple(GUIDED_AT)
    ) -> Iterator[Found]:
        """Samples guided by the loss of `judge`'s task, at every place, length and scale."""
        for place in places:
            for steps in self.config.gradients:
                for scale in self.config.scales:
                    point = Point(part, f"guided at {place}", _width(judge), steps, scale)
                    yield point, partial(self._draw, judge, start, steps, scale, place)

    def plain(
        self, judge: Experiment, initial: dict[str, Callable[[], Weights]], part: str
    ) -> Iterator[Found]:
        """Networks trained from each of the initial weights, with every rate."""
        for way, make in initial.items():
            make = cache(make)
            yield Point(part, way, _width(judge), 0, 0.0), make
            for n in self.config.gradients:
                for rate in self.config.rates:
                    point = Point(part, way, _width(judge), n, rate)
                    yield point, lambda n=n, r=rate, make=make: self._train(judge, make(), r, n)

    def _draw(
        self,
        judge: Experiment,
        start: tuple[Flow, Field],
        steps: int,
        scale: float,
        place: str,
    ) -> Weights:
        """Samples in `steps` guided Euler steps, one gradient each, or as the base says."""
        flow, field = start
        how = judge.sampling
        if scale:
            rate = GUIDANCE_RATES[self.config.base.sampling.guidance_rate]
            how = dataclasses.replace(
                how,
                integrator=Integrator(steps, euler),
                guidance=rate(scale),
                at_end_point=GUIDED_AT[place],
            )
        return how.sampler(flow, judge.form, field)(self.own.keys["sampling"])

    def _train(self, judge: Experiment, initial: Weights, rate: float, steps: int) -> Weights:
        """Networks after gradient steps whose rate goes as that of the zoo, for as many."""
        zoo = judge.config.zoo
        schedule = Schedule(
            batch_size=self.config.base.sampling.guidance_batch,
            same_batches=zoo.same_batches,
        )
        over_steps = choose(ZOO_RATES, "base.zoo.rate", zoo.rate)
        optimizer = optax.sgd(over_steps(rate, steps), momentum=MOMENTUM)
        network, task, key = judge.network, judge.task, judge.keys["zoo"]
        return train_on(network, task, initial, optimizer, key, schedule, steps)

    def _initial(self, judge: Experiment) -> dict[str, Callable[[], Weights]]:
        """Initial weights for another task."""
        n, seen = self.config.base.sampling.networks, self.trained.seen.last().weights
        return self._untrained(judge) | {
            "from trained networks": lambda: jax.tree.map(lambda a: a[:n], seen),
            "from samples": lambda: self._samples,
        }

    def _of_width(self, judge: Experiment) -> dict[str, Callable[[], Weights]]:
        """Initial weights of another width."""
        return self._untrained(judge) | {
            "from samples": lambda: self._draw(judge, self._widened(judge), 0, 0.0, "end_point"),
            "from samples side by side": lambda: side_by_side(
                self.own.network, judge.network, self._samples
            ),
        }

    def _untrained(self, judge: Experiment) -> dict[str, Callable[[], Weights]]:
        keys = jax.random.split(self.own.keys["prior"], self.config.base.sampling.networks)
        return {
            "from Gaussian": lambda: jax.vmap(judge.initial.random)(keys),
            "from He": lambda: jax.vmap(partial(he, judge.network))(keys),
        }

    def _widened(self, wide: Experiment) -> tuple[Flow, Field]:
        """The trained flow for networks of another width, in units of that width's prior."""
        now, then = wide.sizes(), self.own.sizes()
        sizes = {name: size * now[name] / then[name] for name, size in self.trained.sizes.items()}
        flow, unit = wide.make_flow(sizes)
        bind, _ = functional(wide.make_field(flow, unit))
        return flow, bind(self.trained.parameters)


def side_by_side(own: WeightSpec, wide: WeightSpec, samples: Weights) -> Weights:
    """Baseline: neurons of as many networks as fill a width, their outputs averaged.

    For networks of one hidden layer: each begins with its own neurons and goes on with those of
    the networks that follow it; where the width is no multiple, the last gives some of its own.
    """
    first, bias, last, offset = (samples[name] for name in own.arrays)
    n, width = len(offset), wide.groups["h1"].size
    count = own.groups["h1"].size
    rows = (jnp.arange(n)[:, None] + jnp.arange(-(-width // count))[None]) % n

    def beside(a: Array, axis: int) -> Array:
        parts = jnp.moveaxis(a[rows], 1, axis)
        merged = parts.reshape(*parts.shape[:axis], -1, *parts.shape[axis + 2 :])
        return jax.lax.slice_in_dim(merged, 0, width, axis=axis)

    outgoing = beside(last, 1) * count / width
    arrays = beside(first, 2), beside(bias, 1), outgoing, offset[rows].mean(1)
    return dict(zip(wide.arrays, arrays, strict=True))


def he(network: WeightSpec, key: Key[Array, ""]) -> Weights:
    """Initial weights of He et al. (2015, arXiv 1502.01852): kernels of variance 2 / fan-in."""
    keys = jax.random.split(key, len(network.arrays))
    normal = jax.nn.initializers.he_normal()
    draws = {}
    for k, name in zip(keys, network.arrays, strict=True):
        shape = network.shape(name)
        draws[name] = normal(k, shape) if len(shape) > 1 else jnp.zeros(shape)
    return draws


def _changed(base: Config, **changes: Any) -> Experiment:
    config = base.copy_and_resolve_references()
    config.update(changes)
    return Experiment(config)


def _width(experiment: Experiment) -> int:
    return experiment.config.hidden[0]


if __name__ == "__main__":
    main(run)
