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
        shape, factors = spec.shape(name), spec.factors(name)
        if len(shape) < 2:
            gain, even = len(factors) > 1, bool(factors) and factors[-1][2] % 2 == 0
            return jnp.ones(shape) if gain or even else jnp.zeros(shape)
        if sources:
            return initializer(sources, range(sources[-1] + 1, target + 1))(key, shape)
        return initializer((), (), batch_axis=target)(key, shape)  # each neuron separately

    keys = jax.random.split(key, len(spec.arrays))
    return {name: array(name, k) for name, k in zip(spec.arrays, keys, strict=True)}


def _gaussian(spec: WeightSpec, key: Key[Array, ""], std: float | None) -> Weights:
    return AsTrained(spec).prior(1.0 if std is None else std).sample(key)


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
