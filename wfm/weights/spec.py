"""`WeightSpec`: labels of the axes of a network's weights, from which all else is derived."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, Key

from wfm.checks import check_count
from wfm.errors import UserError
from wfm.weights.scaling import NO_SCALING, Scaling

Weights = dict[str, Float[Array, "..."]]
"""The arrays of a network, or of many stacked ones, by name."""
Axes = tuple[str | int | tuple[str, ...], ...]
"""For each axis of an array its group of neurons, or groups of one order, or its size if none."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Neurons that are labelled together: one layer, or all layers on a residual stream.

    `permutable`: whether their order is free (hidden neurons) or has a meaning (inputs, outputs).
    `scaling`: the rescalings that their activation function commutes with.
    `order`: an earlier group that is always permuted together with this one, because each neuron
    here belongs to one there, as the outputs of a depthwise convolution do to its inputs. The two
    are rescaled apart.
    """

    size: int
    permutable: bool = True
    scaling: Scaling = NO_SCALING
    order: str | None = None

    def __post_init__(self):
        check_count("the size of a group of neurons", self.size)


@dataclasses.dataclass(frozen=True, eq=False)
class WeightSpec:
    """A network architecture: its weights with labelled axes, and how it computes.

    `groups` names the groups of neurons in the order of computation: inputs first, outputs last.
    `arrays` gives the axes of every weight array. An axis is the name of the group that it runs
    over or, for plain feature axes such as a convolution's height and width, a size. An array
    *enters* the group of its last labelled axis and *leaves* the groups of the axes before it, as
    in flax: a kernel is `("in", "out")`, a bias `("out",)`. `activations(weights, x)` computes, for
    one input `x`, the outputs of the neurons of each group except the inputs: arrays whose last
    axis runs over the group. It must not depend on group sizes.

    An axis may run over several groups of one order: a depthwise kernel `(3, 3, ("c1", "c2"))`
    leaves `c1` and enters `c2`. When a group is rescaled, arrays that enter it are multiplied by
    its factors, and those that leave it divided; `powers` says where another power is due, as in
    `{"keys.kernel": {"scores": -1}}`. `left`: symmetries that the labels do not say, in words.

    Specs are values: they are equal if their groups, arrays and `activations` are equal and in the
    same order, so that compiled functions recognise them. A plain function is equal only to itself;
    if two calls should make equal specs, give a callable with equality, such as a frozen dataclass.
    """

    groups: Mapping[str, Group]
    arrays: Mapping[str, Axes]
    activations: Callable[[Weights, Array], dict[str, Array]]
    powers: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    left: tuple[str, ...] = ()

    def __post_init__(self):
        check_labels(self.groups, self.arrays, self.powers)

    @functools.cached_property
    def _value(self) -> tuple[Any, ...]:
        arrays = tuple((name, tuple(axes)) for name, axes in self.arrays.items())
        powers = tuple((name, tuple(p.items())) for name, p in self.powers.items())
        return tuple(self.groups.items()), arrays, self.activations, powers, self.left

    def __hash__(self) -> int:
        return hash(self._value)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, WeightSpec) and self._value == other._value)

    def init(self, key: Key[Array, ""], how: str = "he", *, std: float | None = None) -> Weights:
        """Initial weights of one network.

        `"he"` (He et al. 2015), `"lecun"` (LeCun et al. 1998) and `"glorot"` (Glorot & Bengio
        2010): kernels with variance 2/fan_in, 1/fan_in and 2/(fan_in + fan_out), truncated
        normal, and biases 0. Fans are products of sizes: of the groups that an array comes from,
        or of the group it enters, and of feature axes. Feature axes between the two, such as the
        heads of `("stream", 4, "query")`, count only where it enters; those before them, such as a
        convolution's, count at both ends. Axes after the group that an array enters are inner units
        of its neurons, such as those of the heads of `("stream", "heads", 8)`: they count where it
        enters, and where an array such as `("heads", 8, "stream")` comes from them. An array over
        one group is a bias if it has no other feature axes, else a kernel for each neuron
        separately, as in depthwise convolutions. Gains and variances are 1. `"normal"`: all entries
        from N(0, `std`²), by default 1; variances are 1.
        """
        from wfm.weights.initial import init  # derived from the labels, as all else is

        return init(self, key, how, std)

    def apply(self, weights: Weights, x: Array) -> Array:
        """The outputs for one input `x`."""
        return self.activations(weights, x)[self.output]

    def outputs(self, weights: Weights, inputs: Array) -> Array:
        """The outputs for each of the stacked `inputs`."""
        return jax.vmap(functools.partial(self.apply, weights))(inputs)

    def from_params(self, params: Any) -> Weights:
        """The weights in `params` as others hold them: for a traced network, as it was traced.

        For other networks `params` are the weights. One network; use `jax.vmap` for many.
        """
        return getattr(self.activations, "from_params", dict)(params)

    def to_params(self, weights: Weights) -> Any:
        """The inverse of `from_params`."""
        return getattr(self.activations, "to_params", dict)(weights)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the array `name`."""
        return tuple(self.groups[a].size if isinstance(a, str) else a for a in self.axes(name))

    @property
    def n_weights(self) -> int:
        """Total number of entries in all arrays."""
        return sum(math.prod(self.shape(name)) for name in self.arrays)

    # Orders: what is permuted together. A group without an `order` of its own stands for its order.

    def order(self, group: str) -> str:
        """The group whose order the neurons of `group` have: by default its own."""
        return self.groups[group].order or group

    @property
    def orders(self) -> tuple[str, ...]:
        """Names of the groups that stand for the order of all others."""
        return tuple(name for name, group in self.groups.items() if group.order is None)

    @property
    def permutable(self) -> tuple[str, ...]:
        """Names of the orders in which neurons may be permuted."""
        return tuple(name for name in self.orders if self.groups[name].permutable)

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of the orders in which neurons have a fixed meaning."""
        return tuple(name for name in self.orders if not self.groups[name].permutable)

    @property
    def output(self) -> str:
        """Name of the group of outputs."""
        return list(self.groups)[-1]

    def axes(self, name: str) -> tuple[str | int, ...]:
        """For each axis of the array `name` its order, or its size if it has none."""
        return tuple(
            a if isinstance(a, int) else self.order(_along(a)[0]) for a in self.arrays[name]
        )

    def labels(self, name: str) -> dict[int, str]:
        """The labelled axes of the array `name`: position to order."""
        return {i: a for i, a in enumerate(self.axes(name)) if isinstance(a, str)}

    # Groups: what is rescaled together.

    def ends(self, name: str) -> list[tuple[int, str]]:
        """The groups that the array `name` leaves, and last the one that it enters.

        Each comes with the position of the axis that runs over it. An array over no group has none.
        """
        axes = enumerate(self.arrays[name])
        return [
            (i, group) for i, axis in axes if not isinstance(axis, int) for group in _along(axis)
        ]

    def entered(self, name: str) -> str | None:
        """The group that the array `name` enters, if it enters one."""
        return self.ends(name)[-1][1] if self.ends(name) else None

    def target_axis(self, name: str) -> int | None:
        """Position of the axis over the neurons that the array `name` enters, if it has one."""
        return self.ends(name)[-1][0] if self.ends(name) else None

    def factors(self, name: str) -> list[tuple[int, str, int]]:
        """How factors of neurons act on the array `name`: position of the axis, group, power."""
        ends, powers = self.ends(name), self.powers.get(name, {})
        usual = [*[-1] * (len(ends) - 1), 1] if ends else []
        return [(i, g, powers.get(g, p)) for (i, g), p in zip(ends, usual, strict=True)]

    def holds_variances(self, name: str) -> bool:
        """Whether entries of the array `name` keep their sign if neurons change theirs.

        These are the variances of norms, which are positive: they enter a group with an even power.
        """
        factors = self.factors(name)
        return len(factors) == 1 and factors[0][2] % 2 == 0

    def lead(self, group: str) -> tuple[str, int] | None:
        """The array that a group's scale is measured on, and the position of its axis over it.

        It is the first that brings signals from other neurons into `group`: its kernel. If there is
        none, it is the first that enters it at all. Inputs have none.
        """
        entering = [
            (n, f) for n in self.arrays if (f := self.factors(n)) and f[-1][1:] == (group, 1)
        ]
        kernels = [(name, factors) for name, factors in entering if len(factors) > 1]
        for name, factors in kernels or entering:
            return name, factors[-1][0]
        return None

    def resize(self, **sizes: int) -> "WeightSpec":
        """The same architecture with other group sizes, as in `spec.resize(h1=32)`."""
        unknown = sizes.keys() - self.groups.keys()
        if unknown:
            raise UserError(
                f"no group {sorted(unknown)[0]!r} in this network; it has {', '.join(self.groups)}"
            )
        of_orders = {self.order(name): size for name, size in sizes.items()}
        groups = {
            name: dataclasses.replace(group, size=of_orders.get(self.order(name), group.size))
            for name, group in self.groups.items()
        }
        return dataclasses.replace(self, groups=groups)

    def rescalings(self) -> tuple[str, ...]:
        """The rescalings that the groups' activations allow, in words."""
        names = [n for n, group in self.groups.items() if group.scaling != NO_SCALING]
        return tuple(f"the rescaling of each neuron of {name!r}" for name in names)

    def symmetries_left(self) -> tuple[str, ...]:
        """What keeps the function besides permutations, rescalings and shifts, in words."""
        linear = [name for name, group in self.groups.items() if group.scaling.linear]
        affine = "any invertible affine map of {!r}, whose neurons are linear"
        return tuple(affine.format(name) for name in linear if self._alone(name)) + self.left

    def _alone(self, group: str) -> bool:
        """Whether no other group has its order, so that a matrix may act on its neurons."""
        return [self.order(name) for name in self.groups].count(self.order(group)) == 1

    def explain(self) -> str:
        """In words: the groups, what may be done to them, and what is left out and why."""
        from wfm.weights.explain import explain

        return explain(self)

    def check(self, weights: Mapping[str, Any], batch_dims: int = 0) -> None:
        """Raise `UserError` unless names and shapes (after `batch_dims` axes) fit this spec."""
        missing, extra = self.arrays.keys() - weights.keys(), weights.keys() - self.arrays.keys()
        if missing or extra:
            raise UserError(
                f"weights do not fit the network: missing {sorted(missing)}, "
                f"unknown {sorted(extra)}; it has the arrays {list(self.arrays)}"
            )
        shapes = {name: tuple(weights[name].shape) for name in self.arrays}
        if batch_dims and all(shapes[name] == self.shape(name) for name in shapes):
            raise UserError(
                "the weights are those of one network where many are expected; stack them along a "
                "new first axis, as in `jax.tree.map(lambda a: a[None], weights)`"
            )
        if not batch_dims and all(shapes[name][1:] == self.shape(name) for name in shapes):
            raise UserError(
                "the weights are those of many networks where one is expected; map over them with "
                "`jax.vmap`, or take one of them"
            )
        for name in self.arrays:
            shape = shapes[name][batch_dims:]
            if shape != self.shape(name):
                raise UserError(
                    f"weights do not fit the network: {name!r} has shape {shape}, "
                    f"expected {self.shape(name)} (axes {self.arrays[name]}); "
                    f"use `spec.resize` for other widths"
                )
        if len(leading := {shape[:batch_dims] for shape in shapes.values()}) > 1:
            raise UserError(
                f"the arrays hold unequal numbers of networks: {sorted(leading)}; stack them alike"
            )

    def verify(self, weights: Mapping[str, Any], inputs: Any, outputs: Any = None) -> None:
        """Raise `UserError` if labels are wrong, naming the group that shows it.

        Permuting and rescaling each group must keep the outputs, and what enters the outputs must
        add up to them: the canonical form relies on these. They are tried on the first few of the
        stacked `weights` (moved a little, so that nothing is 0 by chance) and of the stacked
        `inputs`. A wrong *layout* may go unnoticed: labels of transposed kernels hold if all widths
        are equal. It shows when compared with `outputs`, the original outputs of the networks (all
        networks, for all `inputs`). A number added to all outputs of an input does not count, so
        log-probabilities are enough.
        """
        from wfm.weights.verify import verify  # derived from the labels, as all symmetries are

        verify(self, weights, inputs, outputs)


def _along(axis: str | tuple[str, ...]) -> tuple[str, ...]:
    return (axis,) if isinstance(axis, str) else axis


def check_labels(
    groups: Mapping[str, Group],
    arrays: Mapping[str, Axes],
    powers: Mapping[str, Mapping[str, int]],
) -> None:
    """Raise `UserError` unless orders, axes and powers name what there is."""
    earlier: dict[str, Group] = {}
    for name, group in groups.items():
        if group.order is not None:
            first = earlier.get(group.order)
            if first is None or first.order is not None:
                raise UserError(
                    f"group {name!r} has the order of {group.order!r}, which is no earlier group "
                    "with an order of its own"
                )
            if (first.size, first.permutable) != (group.size, group.permutable):
                raise UserError(
                    f"groups {group.order!r} and {name!r} have one order, and differ in size or in "
                    "whether they may be permuted"
                )
        earlier[name] = group
    for name, axes in arrays.items():
        for axis in (_along(a) for a in axes if not isinstance(a, int)):
            unknown = [a for a in axis if a not in groups]
            if unknown or not axis:
                raise UserError(
                    f"array {name!r} has an axis over the unknown group {[*unknown, None][0]!r}"
                )
            if len({groups[a].order or a for a in axis}) > 1:
                raise UserError(
                    f"array {name!r} has an axis over {' and '.join(map(repr, axis))}, which have "
                    "different orders; give one of them the `order` of the other"
                )
    for name, by_group in powers.items():
        named = [
            g for axis in arrays.get(name, ()) if not isinstance(axis, int) for g in _along(axis)
        ]
        if unknown := [g for g in by_group if g not in named]:
            raise UserError(
                f"powers name {name!r} and {unknown[0]!r}, but no such array runs over it"
            )
