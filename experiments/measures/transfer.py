"""A flow over networks of one task, used for another task and for other widths.

For the other task its samples are guided by that task's loss, or trained plainly with as many
gradients, and compared with other initial weights. For the flow's own task, networks of other
widths are drawn without training again.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from experiments.build import ZOO_RATES, Parts
from experiments.command import choose
from experiments.measures.base import Point
from experiments.measures.quality import judge, quality, train_on
from experiments.records import Figures
from experiments.sampling import GUIDANCE_RATES, GUIDED_AT
from experiments.stages import Run, initial_moments, make_field, make_matching, make_zoo
from wfm.batching import first_rows
from wfm.errors import UserError
from wfm.fields import functional
from wfm.flows import Flow, Integrator, euler
from wfm.weights import Weights, WeightSpec
from wfm.zoo import Schedule

MOMENTUM = 0.9  # of plain training, as for the zoo
Judge = Callable[[Weights], Figures]


def check(run: Run) -> None:
    """Refuse tasks and networks between which transfer is impossible."""
    Lab(run)


def points(run: Run) -> Iterator[Point]:
    """All sets of networks: where each belongs, how it was made, and how it is judged."""
    return Lab(run).points()


class Lab:
    """The flow's own run, the other task, and other widths."""

    def __init__(self, run: Run):
        self.run, self.own, self.c = run, run.parts, run.config.transfer
        self.other = self.own.changed(task=self.c.task)
        if not re.fullmatch(r"mlp:\d+", run.config.network):
            raise UserError(
                f"config.network is {run.config.network!r}; transfer to other widths needs an MLP "
                "with one hidden layer, as mlp:16"
            )
        self.wide = [self.own.changed(network=f"mlp:{width}") for width in self.c.widths]
        if self.own.network.groups != self.other.network.groups:
            raise UserError(
                f"config.transfer.task is {self.c.task!r}, whose inputs or classes are not as many "
                "as those of config.task; choose a task of images as large, of as many classes"
            )

    def points(self) -> Iterator[Point]:
        """Points of the other task, then points of every width."""
        yield from self._part("task", self.other, self._native, self._initial, tuple(GUIDED_AT))
        for wide in self.wide:
            start = cache(partial(self._widened, wide))
            yield from self._part("width", wide, start, self._of_width, ("end_point",))

    def _part(
        self,
        part: str,
        of: Parts,
        start: Callable[[], Flow],
        initial: Callable[[Parts], dict[str, Callable[[], Weights]]],
        places: tuple[str, ...],
    ) -> Iterator[Point]:
        judge = self._judge(of)

        def point(way: str, gradients: int, setting: float, make: Callable[[], Weights]) -> Point:
            """`gradients`: how many of its task each network has used; `setting`: their scale."""
            at = {"part": part, "way": way, "width": of.network.groups["h1"].size}
            at |= {"gradients": gradients, "setting": setting}
            return Point(at, lambda folder: judge(make()))

        few = of.changed(zoo={"networks": of.config.sampling.networks})
        steps, rate = few.schedule.steps(len(few.task.train)), few.config.zoo.learning_rate
        yield point("trained as the zoo", steps, rate, lambda: make_zoo(few).last().weights)
        for place in places:
            for n in self.c.gradients:
                for scale in self.c.scales:
                    make = partial(self._draw, of, start, n, scale, place)
                    yield point(f"guided at {place}", n, scale, make)
        for way, first in initial(of).items():
            first = cache(first)
            yield point(way, 0, 0.0, first)
            for n in self.c.gradients:
                for rate in self.c.rates:
                    yield point(way, n, rate, partial(self._train, of, first, rate, n))

    def _judge(self, of: Parts) -> Judge:
        """Quality, and novelty where it matters: other tasks and widths are new anyway."""
        if of.config == self.own.config:
            return partial(judge, self.run)
        return partial(quality, of.network, of.task)

    @cached_property
    def _samples(self) -> Weights:
        return self._draw(self.own, self._native, 0, 0.0, "end_point")

    def _native(self) -> Flow:
        return self.run.trained.flow

    def _draw(
        self,
        of: Parts,
        start: Callable[[], Flow],
        steps: int,
        scale: float,
        place: str,
    ) -> Weights:
        """Samples in `steps` guided Euler steps, one gradient each, or as configured."""
        how = of.sampling
        if scale:
            rate = GUIDANCE_RATES[self.run.config.sampling.guidance_rate]
            how = dataclasses.replace(
                how,
                integrator=Integrator(steps, euler),
                guidance=rate(scale),
                at_end_point=GUIDED_AT[place],
            )
        return how.sampler(start(), of.form)(self.own.keys["sampling"])

    def _train(self, of: Parts, initial: Callable[[], Weights], rate: float, steps: int) -> Weights:
        """Networks after gradient steps with the zoo's schedule of rates over `steps`."""
        zoo = of.config.zoo
        batch = self.run.config.sampling.guidance_batch
        schedule = Schedule(batch_size=batch, same_batches=zoo.same_batches)
        over_steps = choose(ZOO_RATES, "zoo.rate", zoo.rate)
        optimizer = optax.sgd(over_steps(rate, steps), momentum=MOMENTUM)
        key = of.keys["zoo"]
        return train_on(of.network, of.task, initial(), optimizer, key, schedule, steps)

    def _initial(self, of: Parts) -> dict[str, Callable[[], Weights]]:
        """Initial weights for another task."""
        n = self.run.config.sampling.networks
        return self._untrained(of) | {
            "from trained networks": lambda: first_rows(self.run.seen.last().weights, n),
            "from samples": lambda: self._samples,
        }

    def _of_width(self, of: Parts) -> dict[str, Callable[[], Weights]]:
        """Initial weights of another width."""
        start = partial(self._widened, of)
        return self._untrained(of) | {
            "from samples": lambda: self._draw(of, start, 0, 0.0, "end_point"),
            "from samples side by side": lambda: side_by_side(
                self.own.network, of.network, self._samples
            ),
        }

    def _untrained(self, of: Parts) -> dict[str, Callable[[], Weights]]:
        keys = jax.random.split(self.own.keys["prior"], self.run.config.sampling.networks)
        return {
            "from Gaussian": lambda: jax.vmap(of.initial.sample)(keys),
            "from He": lambda: jax.vmap(partial(of.network.init, how="he"))(keys),
        }

    def _widened(self, wide: Parts) -> Flow:
        """The trained flow for networks of another width, in units of that width's prior."""
        now, then = initial_moments(wide), initial_moments(self.own)
        trained: Any = self.run.trained
        found = {n: m.times(now[n].size / then[n].size) for n, m in trained.moments.items()}
        matching, unit = make_matching(wide, found)
        bind, _ = functional(make_field(wide, matching, unit))
        return matching.flow(bind(trained.flow.field.params))


def side_by_side(own: WeightSpec, wide: WeightSpec, samples: Weights) -> Weights:
    """Baseline: neurons of as many networks as fill a width, with averaged outputs.

    For networks with one hidden layer: each begins with its own neurons and continues with those of
    the networks that follow it. If the width is not a multiple, the last gives only some neurons.
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
