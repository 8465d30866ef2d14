"""How permutations and rescalings of neurons act on weights, derived from the labels."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from wfm.weights.spec import Weights, WeightSpec

Permutation = dict[str, Int[Array, "..."]]
"""The new order of the neurons of each permuted order, by the group that stands for it."""
Rescaling = dict[str, Float[Array, " n"]]
"""The factor of each neuron of each rescaled group."""


def permute(
    spec: WeightSpec, permutation: Mapping[str, Int[Array, "..."]], weights: Weights
) -> Weights:
    """Move neuron `permutation[g][i]` of every order g in `permutation` to place i.

    Hecht-Nielsen (1990): for hidden groups this leaves the function unchanged.
    """

    def act(name: str) -> Array:
        array = weights[name]
        for axis, group in spec.labels(name).items():
            if group in permutation:
                array = jnp.take(array, permutation[group], axis)
        return array

    return {name: act(name) for name in spec.arrays}


@partial(jax.jit, static_argnums=0)
def permute_all(
    spec: WeightSpec, permutations: Mapping[str, Int[Array, "..."]], weights: Weights
) -> Weights:
    """Stacked networks, each permuted by its own permutation."""
    return jax.vmap(partial(permute, spec))(permutations, weights)


def mix(spec: WeightSpec, matrices: Mapping[str, Float[Array, "n n"]], weights: Weights) -> Weights:
    """Multiply every axis over an order named in `matrices` by its matrix.

    For permutation matrices, with P[i, π(i)] = 1, this is `permute` by π.
    """

    def act(name: str) -> Array:
        array = weights[name]
        for axis, group in spec.labels(name).items():
            if group in matrices:
                array = jnp.moveaxis(jnp.tensordot(matrices[group], array, (1, axis)), 0, axis)
        return array

    return {name: act(name) for name in spec.arrays}


def rescale(
    spec: WeightSpec, factors: Mapping[str, Float[Array, " n"]], weights: Weights
) -> Weights:
    """Multiply what enters every neuron of the groups in `factors`; divide what leaves it.

    `WeightSpec.powers` has the exceptions. With factors that the activation allows, this leaves the
    function unchanged.
    """

    def act(name: str) -> Array:
        array = weights[name]
        for axis, group, power in spec.factors(name):
            if group in factors and power:
                shape = [1] * array.ndim
                shape[axis] = -1
                factor = factors[group].reshape(shape) ** abs(power)
                array = array * factor if power > 0 else array / factor
        return array

    return {name: act(name) for name in spec.arrays}


def random_permutation(spec: WeightSpec, key: Key[Array, ""]) -> Permutation:
    """A uniform permutation of every permutable order."""
    keys = jax.random.split(key, len(spec.groups))
    return {
        name: jax.random.permutation(k, group.size)
        for k, (name, group) in zip(keys, spec.groups.items(), strict=True)
        if name in spec.permutable
    }


def random_rescaling(spec: WeightSpec, key: Key[Array, ""]) -> Rescaling:
    """Random factors that every group's activation allows."""
    keys = jax.random.split(key, len(spec.groups))
    return {
        name: group.scaling.random(k, group.size)
        for k, (name, group) in zip(keys, spec.groups.items(), strict=True)
    }
