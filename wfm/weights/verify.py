"""Do labels and layouts match what a network computes? Its symmetries must keep the outputs."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from wfm.errors import UserError
from wfm.weights.precision import in_working_precision
from wfm.weights.scaling import NO_SCALING
from wfm.weights.spec import Weights, WeightSpec

NETWORKS, INPUTS = 3, 8  # how many of those given are used


def verify(
    spec: WeightSpec,
    weights: Mapping[str, Any],
    inputs: Num[Array, "m ..."] | Num[np.ndarray, "m ..."],
    outputs: Float[Array, "n m outputs"] | Float[np.ndarray, "n m outputs"] | None = None,
) -> None:
    """`WeightSpec.verify`."""
    spec.check(weights, batch_dims=1)
    # Matrix products on an accelerator may have only three digits.
    with jax.default_matmul_precision("highest"):
        if outputs is not None:
            found = np.asarray(_outputs(spec, in_working_precision(weights), jnp.asarray(inputs)))
            _compare_with_given(np.asarray(outputs), found)
        few = _few(weights)
        changes = [_Change("", few, spec.output), *_changes(spec, few)]
        together = {name: np.concatenate([c.weights[name] for c in changes]) for name in few}
        found = np.asarray(_outputs(spec, together, jnp.asarray(inputs[:INPUTS])))
    before, *after = np.split(found, len(changes))
    for change, new in zip(changes[1:], after, strict=True):
        same = _centred if change.up_to_shift else np.asarray
        error = _difference(same(change.factor * before), same(new))
        if error > _tolerance(new):
            if change.group == spec.output:
                raise UserError(
                    f"outputs must be sums of what enters {spec.output!r}, as logits are, and "
                    f"these are not: {change.what} {spec.output!r} gives others than they say, by "
                    f"{error:.2g} of their size; check the axes of "
                    f"{', '.join(n for n in spec.arrays if spec.entered(n) == spec.output)}, and "
                    "leave out a softmax at the end"
                )
            names = [n for n in spec.arrays if change.group in _named(spec, n)]
            raise UserError(
                f"the labels of this network are wrong: {change.what} {change.group!r} gives other "
                f"outputs than they say, by {error:.2g} of their size; check the axes of "
                f"{', '.join(names)}, and the scaling of this group"
            )


class _Change(NamedTuple):
    """Stacked networks after a change that should only multiply all outputs by a factor."""

    what: str
    weights: dict[str, np.ndarray]
    group: str
    factor: float = 1.0
    up_to_shift: bool = False  # a number may be added to all outputs of an input


def _changes(spec: WeightSpec, weights: dict[str, np.ndarray]) -> Iterator[_Change]:
    """Changes that, by the labels, keep probabilities, one group at a time, or scale outputs.

    The canonical form is composed of these.
    """

    def act(name: str, axis: int, on: Callable) -> np.ndarray:
        return np.moveaxis(on(np.moveaxis(new[name], 1 + axis, -1)), -1, 1 + axis)

    def entering_outputs(on: Callable) -> dict[str, np.ndarray]:
        entering = (name for name in spec.arrays if spec.entered(name) == spec.output)
        return weights | {name: act(name, spec.target_axis(name) or 0, on) for name in entering}

    largest = max(group.size for group in spec.groups.values())
    for number, (group, neurons) in enumerate(spec.groups.items()):
        if group in spec.permutable and neurons.size > 1:
            order = np.random.default_rng(number).permutation(neurons.size)
            order = np.roll(order, 1) if (order == np.arange(neurons.size)).all() else order
            new = dict(weights)
            for name in spec.arrays:
                for axis in (a for a, label in spec.labels(name).items() if label == group):
                    new[name] = act(name, axis, partial(np.take, indices=order, axis=-1))
            yield _Change("permuting the neurons of", new, group)
        if neurons.scaling != NO_SCALING:
            drawn = neurons.scaling.random(
                jax.random.key(number), largest
            )  # one shape: one program
            factors = np.asarray(drawn)[: neurons.size].astype(weights[next(iter(weights))].dtype)
            new = dict(weights)
            for name in spec.arrays:
                for axis, _, power in (f for f in spec.factors(name) if f[1] == group):
                    new[name] = act(name, axis, partial(np.multiply, factors ** float(power)))
            yield _Change("rescaling the neurons of", new, group)
    new = dict(weights)
    if spec.lead(spec.output) is None:
        return
    doubled = entering_outputs(lambda a: 2 * a)
    yield _Change("doubling what enters", doubled, spec.output, 2.0)
    centred = entering_outputs(_centred)
    yield _Change("centring what enters", centred, spec.output, up_to_shift=True)


def _named(spec: WeightSpec, name: str) -> set[str]:
    """The groups and orders that the array `name` has to do with."""
    return {group for _, group in spec.ends(name)} | set(spec.labels(name).values())


def _few(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The first few of the stacked networks that are finite, moved a little."""
    arrays = {name: np.asarray(a) for name, a in weights.items()}
    finite = [np.isfinite(a).reshape(len(a), -1).all(1) for a in arrays.values()]
    rows = np.flatnonzero(np.all(finite, 0))[:NETWORKS]
    if not len(rows):
        raise UserError("no network to verify the labels on: none has finite weights only")
    few = in_working_precision({name: a[rows] for name, a in arrays.items()})
    return {name: _generic(np.asarray(a)) for name, a in few.items()}


def _generic(a: np.ndarray) -> np.ndarray:
    """All entries moved a little: if all biases are 0, say, a wrong label goes unnoticed."""
    noise = np.random.default_rng(0).normal(size=a.shape)
    alike = a.size and np.ptp(a) == 0
    return (a * (1 + 0.1 * noise) + (0.1 * np.abs(noise) if alike else 0)).astype(a.dtype)


@partial(jax.jit, static_argnums=0)
def _outputs(spec: WeightSpec, weights: Weights, inputs: Array) -> Float[Array, "n m outputs"]:
    return jax.vmap(spec.outputs, (0, None))(weights, inputs)


def _compare_with_given(given: np.ndarray, found: np.ndarray) -> None:
    if found.shape != given.shape:
        raise UserError(
            f"these networks have outputs of shape {found.shape} (network, input, output), and "
            f"those given have {given.shape}; give those of the same networks for the same inputs"
        )
    given = given.astype(found.dtype)
    if (error := _difference(_centred(given), _centred(found))) > _tolerance(found):
        raise UserError(
            f"the weights do not compute the outputs given: they differ by {error:.2g} of their "
            "size; kernels may be transposed or in another order (their axes are "
            "(from, to) here), or the network has another activation"
        )


def _centred(outputs: np.ndarray) -> np.ndarray:
    """Outputs without what is added equally to all of them; a single output stays as it is."""
    return outputs - outputs.mean(-1, keepdims=True) if outputs.shape[-1] > 1 else outputs


def _difference(before: np.ndarray, after: np.ndarray) -> float:
    """The largest difference relative to the largest output; infinite if one is not finite."""
    size, error = np.abs(before).max(), np.abs(after - before).max()
    if not np.isfinite(size + error):
        return float("inf")
    return float(error / size) if size else float(error)


def _tolerance(outputs: np.ndarray) -> float:
    return float(np.finfo(outputs.dtype).eps ** 0.5)
