"""`trace`: a `WeightSpec` from a function and its parameters."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from wfm.errors import UserError
from wfm.weights.layout import Layout, Stored, from_stored, to_stored
from wfm.weights.spec import Weights, WeightSpec
from wfm.weights.tracing.labels import OUT, Found, label
from wfm.weights.tracing.notes import left, notes
from wfm.weights.tracing.program import Program, flatten, unstack
from wfm.weights.tracing.runs import Runs

Apply = Callable[[PyTree, Array], Array]


def trace(apply: Apply, params: PyTree, example: Any) -> WeightSpec:
    """The labels of the weights `params` of the network `apply(params, x)`, for one input `x`.

    `apply` is any function of JAX: `model.apply` of Flax, `lambda state, x: nnx.merge(graph,
    state)(x)` with NNX, `lambda model, x: model(x)` with Equinox, or your own. `params` is a pytree
    with arrays, `example` one input, without an axis over inputs, and the outputs have at least one
    axis. For classifiers they are logits.

    All that is known of the network comes from the operations it is made of. Axes that are
    multiplied, added or summed over together run over the same neurons. An axis is permutable
    unless something gives its order a meaning: inputs, outputs, places in an image, a constant that
    varies along it, an operation that is not understood. A neuron may be rescaled if all that it
    passes through commutes with that. What is found is a symmetry; not all symmetries are found,
    and `spec.explain()` says what is left out and why.

    The arrays of the spec are those of `params` in another layout: `spec.from_params` and
    `spec.to_params` go between.
    """
    network, arrays = _network(apply, params)
    program, entries = network.program(_shapes(arrays), jnp.asarray(example))
    runs = Runs(program)
    stored = _stored(arrays, entries)
    found = _found(runs, stored)
    labels = label(found, stored)
    traced = Traced(
        network,
        tuple(labels.layout.items()),
        tuple(runs.said(labels.sites, labels.nodes).items()),
        notes(runs, found, labels),
    )
    return WeightSpec(
        labels.groups, labels.arrays, traced, labels.powers, left(runs, found, labels)
    )


def _network(apply: Apply, params: PyTree) -> tuple["Network", dict[str, Any]]:
    """The function of named arrays, and these arrays."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    named = [(_name(path), leaf) for path, leaf in leaves]
    arrays = {name: leaf for name, leaf in named if _is_weight(leaf)}
    if not arrays:
        raise UserError("there are no weights to label: `params` has no floating-point array")
    if len(dict(named)) < len(named):
        raise UserError("two arrays of `params` have one name; rename one of them")
    others = tuple((name, leaf) for name, leaf in named if name not in arrays)
    return Network(apply, structure, tuple(name for name, _ in named), others), arrays


def _name(path: Any) -> str:
    # Variables of NNX hold their arrays under this name.
    name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
    return name or "weights"  # one array, in no container


def _is_weight(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _shapes(arrays: Mapping[str, Any]) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    return tuple((n, tuple(a.shape), jnp.dtype(a.dtype).name) for n, a in arrays.items())


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A function of named arrays and an input. `others`: leaves that are no weights."""

    apply: Apply
    structure: Any
    names: tuple[str, ...]
    others: tuple[tuple[str, Any], ...]

    @property
    def weights(self) -> list[str]:
        """The names of the arrays."""
        others = dict(self.others)
        return [name for name in self.names if name not in others]

    def __call__(self, stored: Mapping[str, Any], x: Any) -> Any:
        return self.apply(self.params(stored), x)

    def params(self, stored: Mapping[str, Any]) -> PyTree:
        """The parameters with these arrays, as `apply` takes them."""
        leaves = dict(self.others) | dict(stored)
        return jax.tree.unflatten(self.structure, [leaves[name] for name in self.names])

    def stored(self, params: PyTree) -> dict[str, Any]:
        """The inverse of `params`."""
        leaves, structure = jax.tree.flatten(params)
        if structure != self.structure:
            raise UserError(
                f"these parameters have another structure than those that were traced: {structure} "
                f"instead of {self.structure}"
            )
        others = dict(self.others)
        named = zip(self.names, leaves, strict=True)
        return {name: leaf for name, leaf in named if name not in others}

    def program(
        self, arrays: tuple[tuple[str, tuple[int, ...], str], ...], x: Any
    ) -> tuple[Program, list[tuple[int, int | None]]]:
        """The operations, for arrays of these shapes and an input like `x`; see `unstack`."""
        names = [name for name, *_ in arrays]

        def function(*inputs: Any) -> Any:
            *weights, x = inputs
            return self(dict(zip(names, weights, strict=True)), x)

        like = [jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in arrays]
        program, made = flatten(function, *like, jax.ShapeDtypeStruct(x.shape, x.dtype))
        outputs = jax.tree.leaves(made)
        if len(outputs) != 1 or not outputs[0].shape:
            shapes = ", ".join(str(o.shape) for o in outputs)
            raise UserError(
                f"the network gives arrays of shapes {shapes or 'none'} for one input; it must "
                "give one array, with the outputs on its last axis"
            )
        return unstack(program)

    # Equal if made of the same function and names, so that compiled functions recognise specs.

    @property
    def _value(self) -> tuple[Any, ...]:
        others = tuple((name, id(leaf)) for name, leaf in self.others)
        return self.apply, self.structure, self.names, others

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self._value == other._value

    def __hash__(self) -> int:
        return hash((self.structure, self.names))


@dataclasses.dataclass(frozen=True)
class Traced:
    """What the neurons of a traced network say. `values`: where in the program, by group."""

    network: Network
    layout: tuple[tuple[str, Stored], ...]
    values: tuple[tuple[str, tuple[int, int]], ...]
    notes: tuple[str, ...] = dataclasses.field(compare=False)

    def __call__(self, weights: Weights, x: Array) -> dict[str, Array]:
        stored = to_stored(dict(self.layout), weights)
        stored = {name: stored[name] for name in self.network.weights}
        program, entries = _program(self.network, _shapes(stored), (x.shape, x.dtype.name))
        arrays = list(stored.values())
        read = [arrays[i] if entry is None else arrays[i][entry][None] for i, entry in entries]
        places = [number for _, (number, _) in self.values]
        found = program(*read, x, wanted=places)
        said = {
            group: jnp.moveaxis(value, axis, -1)
            for (group, (_, axis)), value in zip(self.values, found, strict=True)
        }
        # Not from the program: functions keep the derivatives that they were given.
        return said | {OUT: self.network(stored, x)}

    def from_params(self, params: PyTree) -> Weights:
        """`WeightSpec.from_params`."""
        found = from_stored(dict(self.layout), self.network.stored(params))
        return {name: jnp.asarray(array) for name, array in found.items()}

    def to_params(self, weights: Weights) -> PyTree:
        """`WeightSpec.to_params`."""
        return self.network.params(to_stored(dict(self.layout), weights))


@functools.lru_cache(maxsize=32)
def _program(
    network: Network, arrays: Any, x: tuple[tuple[int, ...], str]
) -> tuple[Program, list[tuple[int, int | None]]]:
    return network.program(arrays, jax.ShapeDtypeStruct(*x))


def _stored(arrays: Mapping[str, Any], entries: Sequence[tuple[int, int | None]]) -> Layout:
    """Where the inputs of a program are stored, with their axes as they are."""
    names = list(arrays)
    stored: dict[str, Stored] = {}
    for number, entry in entries:
        name = names[number]
        shape = tuple(int(n) for n in arrays[name].shape)
        if entry is None:
            stored[name] = Stored(name, shape, tuple(range(len(shape))))
        else:
            module, _, last = name.rpartition(".")
            own = f"{module}.{entry}.{last}" if module else f"{name}.{entry}"
            order = tuple(range(len(shape) - 1))
            stored[own] = Stored(name, shape[1:], order, (1, *shape[1:]), (entry, shape[0]))
    return stored


def _found(runs: Runs, stored: Layout) -> Found:
    """What the runs found, with arrays in the order in which the program uses them."""
    first: dict[int, int] = {}
    for place, operation in enumerate(runs.program.operations):
        for number in operation.reads:
            first.setdefault(number, place)
    names = list(stored)
    numbers = dict(zip(names, runs.program.inputs, strict=False))
    never = len(runs.program.operations)
    order = sorted(names, key=lambda name: first.get(numbers[name], never))
    index = {name: i for i, name in enumerate(names)}
    parts = {name: runs.parts_of(index[name], numbers[name] in first) for name in order}
    for name in order:  # the program reads one entry of a stack as an array with one more axis
        if stored[name].part[1] > 1:
            parts[name] = [dataclasses.replace(p, axis=p.axis - 1) for p in parts[name] if p.axis]
    return Found(parts, runs.found_sites(), *runs.outputs(), runs.companions())
