"""Normal forms of neurons, one group at a time, read and written by the labels."""

import math
from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Bool

from wfm.weights.scaling import Incoming
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.symmetry import rescale


def normalize(
    spec: WeightSpec, group: str, weights: Weights
) -> tuple[Weights, Bool[Array, " neurons"]]:
    """`weights` with the neurons of `group` in normal form, and which neurons this changes.

    A dead neuron has no normal form. Its incoming weights become one fixed direction, variances 1,
    and everything else that enters or leaves it becomes 0. This keeps the function if the neuron
    output 0 for all inputs, or if nothing left it; otherwise the neuron counts as changed.
    """
    incoming, scaling = _incoming(spec, group, weights), spec.groups[group].scaling
    dead = scaling.dead(incoming)
    changed = dead & ~scaling.silent(incoming) & ~_leaves_nothing(spec, group, weights)
    weights = rescale(spec, {group: 1 / scaling.measure(incoming)}, weights)
    return _retire(spec, group, dead, weights), changed


def _rows(array: Array, axis: int) -> Array:
    """The entries of an array for each neuron along `axis`, as rows."""
    return jnp.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _left(spec: WeightSpec, group: str, name: str) -> list[int]:
    """The axes along which the array `name` leaves `group`."""
    return [axis for axis, other in spec.ends(name)[:-1] if other == group]


def _incoming(spec: WeightSpec, group: str, weights: Weights) -> Incoming:
    lead = spec.lead(group)
    assert lead, f"no kernel enters {group!r}"
    parts = {"kernels": [], "biases": []}
    for name in spec.arrays:
        factors = spec.factors(name)
        if name != lead[0] and factors and factors[-1][1:] == (group, 1):
            kind = "kernels" if len(factors) > 1 else "biases"
            parts[kind].append(_rows(weights[name], factors[-1][0]))
    rows = _rows(weights[lead[0]], lead[1])
    none = jnp.zeros((len(rows), 0), rows.dtype)
    kernels, biases = (jnp.concatenate([none, *p], 1) for p in parts.values())
    ties = partial(_ties, spec, *lead, weights[lead[0]], biases)
    return Incoming(rows, kernels, biases, ties)


def _ties(
    spec: WeightSpec, name: str, axis: int, kernel: Array, biases: Array
) -> tuple[Array, Array]:
    """Odd sums over what enters each neuron, in units of its largest entry, and their sizes.

    First the whole kernel. Then, for every place along axes with a fixed order, the entries, or the
    sums and the sums of cubes over axes whose order is free. Then the biases.
    """
    labels = {a: g for a, g in spec.labels(name).items() if a != axis}
    free = [a for a, g in labels.items() if spec.groups[g].permutable]
    n_free = math.prod(kernel.shape[a] for a in free)
    last = range(kernel.ndim - len(free), kernel.ndim)
    entries = jnp.moveaxis(kernel, [axis, *free], [0, *last]).reshape(
        kernel.shape[axis], -1, n_free
    )
    rows = jnp.concatenate([entries.reshape(len(entries), -1), biases], 1)
    largest = jnp.abs(rows).max(1, keepdims=True)
    largest = jnp.where(largest < jnp.finfo(rows.dtype).tiny, 1.0, largest)
    entries, biases = entries / largest[..., None], biases / largest
    parts = [entries.sum((1, 2))[:, None], entries.sum(2)]
    sizes = [jnp.abs(entries).sum((1, 2))[:, None], jnp.abs(entries).sum(2)]
    if free:
        parts.append((entries**3).sum(2))
        sizes.append((jnp.abs(entries) ** 3).sum(2))
    sizes = [jnp.broadcast_to(s.max(1, keepdims=True), s.shape) for s in sizes]
    return jnp.concatenate([*parts, biases], 1), jnp.concatenate([*sizes, jnp.ones_like(biases)], 1)


def _leaves_nothing(spec: WeightSpec, group: str, weights: Weights) -> Bool[Array, " neurons"]:
    nothing = jnp.ones(spec.groups[group].size, bool)
    for name in spec.arrays:
        for axis in _left(spec, group, name):
            nothing &= (_rows(weights[name], axis) == 0).all(1)
    return nothing


def _retire(
    spec: WeightSpec, group: str, dead: Bool[Array, " neurons"], weights: Weights
) -> Weights:
    """Let only one fixed direction enter the dead neurons, and nothing leave them."""
    lead, unit_norm = spec.lead(group), spec.groups[group].scaling.unit_norm
    new = dict(weights)
    for name in spec.arrays:
        into = [spec.target_axis(name)] if spec.entered(name) == group else []
        for axis in [*_left(spec, group, name), *into]:
            array = new[name]
            direction = (array.size // array.shape[axis]) ** -0.5 if array.size else 0.0
            rest = direction if unit_norm and (name, axis) == lead else 0.0
            rest = 1.0 if spec.holds_variances(name) else rest
            shape = [-1 if a == axis else 1 for a in range(array.ndim)]
            new[name] = jnp.where(dead.reshape(shape), rest, array)
    return new
