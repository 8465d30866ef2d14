"""Initial weights for training, drawn according to the labels."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_normal, he_normal, lecun_normal
from jaxtyping import Array, Key

from wfm.errors import UserError
from wfm.weights.form import AsTrained
from wfm.weights.spec import Weights, WeightSpec

Start = Callable[[WeightSpec, Key[Array, ""], float | None], Weights]


def _by_fans(
    initializer: Callable[..., Any], spec: WeightSpec, key: Key[Array, ""], std: float | None
) -> Weights:
    """Weights with kernels from a JAX initializer; gains and variances are 1, all else is 0."""

    def array(name: str, key: Key[Array, ""]) -> Array:
        *sources, target = spec.labels(name) or [0]
        shape = spec.shape(name)
        if not sources and target == 0:
            gain = len(spec.factors(name)) > 1
            return jnp.ones(shape) if gain or spec.holds_variances(name) else jnp.zeros(shape)
        if sources:
            last = sources[-1] + 1 + len(_inner_of_source(spec, name, sources[-1]))
            into, out_of = [*sources, *range(sources[-1] + 1, last)], range(last, len(shape))
            return initializer(into, out_of)(key, shape)
        return initializer((), (), batch_axis=target)(key, shape)  # each neuron separately

    keys = jax.random.split(key, len(spec.arrays))
    return {name: array(name, k) for name, k in zip(spec.arrays, keys, strict=True)}


def _inner(spec: WeightSpec, name: str) -> tuple[int, ...]:
    """The sizes of the axes of an array after the group that it enters."""
    axis = spec.target_axis(name)
    return () if axis is None else spec.shape(name)[axis + 1 :]


def _inner_of_source(spec: WeightSpec, name: str, source: int) -> tuple[int, ...]:
    """The sizes of the axes after `source` that are inner units of the neurons there."""
    groups = [group for axis, group in spec.ends(name) if axis == source]
    entering = (n for n in spec.arrays if n != name and spec.entered(n) in groups)
    inner = max((_inner(spec, n) for n in entering), key=len, default=())
    return inner if spec.shape(name)[source + 1 :][: len(inner)] == inner else ()


def _gaussian(spec: WeightSpec, key: Key[Array, ""], std: float | None) -> Weights:
    drawn = AsTrained(spec).prior(1.0 if std is None else std).sample(key)
    return {n: jnp.ones_like(a) if spec.holds_variances(n) else a for n, a in drawn.items()}


STARTS: dict[str, Start] = {
    "he": functools.partial(_by_fans, he_normal),
    "lecun": functools.partial(_by_fans, lecun_normal),
    "glorot": functools.partial(_by_fans, glorot_normal),
    "normal": _gaussian,
}


def init(spec: WeightSpec, key: Key[Array, ""], how: str, std: float | None) -> Weights:
    """`WeightSpec.init`."""
    if how not in STARTS:
        raise UserError(f"unknown initialisation {how!r}; choose one of {', '.join(STARTS)}")
    if std is not None and how != "normal":
        raise UserError(f"std is of the initialisation 'normal'; {how!r} finds its own")
    return STARTS[how](spec, key, std)
