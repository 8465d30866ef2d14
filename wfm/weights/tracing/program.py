"""A function as a flat list of operations: calls inside are written out, constants computed."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
from jax.extend import core
from jaxtyping import Array

CONTROL = ("scan", "while", "cond")  # what these hold is not run once, in order
LONGEST = 64  # a scan over more layers is not written out


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One primitive of JAX, with the numbers of the values it reads and makes.

    `sources`: where it was asked for, and where the calls that it is inside of were.
    """

    primitive: Any
    params: dict[str, Any]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    sources: tuple[Any, ...]

    @property
    def name(self) -> str:
        return self.primitive.name

    @property
    def where(self) -> str:
        """The operation and the line of the caller's code that asked for it."""
        traced = [s.traceback for s in self.sources if s.traceback]
        frames = [frame for traceback in traced for frame in traceback.frames]
        own = [f for f in frames if not any(part in f.file_name for part in _LIBRARIES)]
        place = f" ({own[0].file_name.rsplit('/', 1)[-1]}:{own[0].line_num})" if own else ""
        return f"{self.name!r}{place}"


_LIBRARIES = ("/jax/", "/flax/", "/equinox/", "/haiku/", "/wfm/weights/tracing/", "/functools.py")


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """Operations in order. Values are numbered; `shapes` has their shapes and types."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: dict[int, Any]
    operations: tuple[Operation, ...]
    shapes: dict[int, jax.ShapeDtypeStruct]

    @property
    def uses(self) -> Counter[int]:
        """How many operations read each value; an output counts as one more."""
        return Counter([i for o in self.operations for i in o.reads] + list(self.outputs))

    def __call__(self, *inputs: Any, wanted: Sequence[int]) -> list[Array]:
        """The `wanted` values for these inputs."""
        values: dict[int, Any] = dict(self.constants) | dict(zip(self.inputs, inputs, strict=True))
        for operation in self.operations:
            for number, value in zip(
                operation.makes, bind(operation, [values[i] for i in operation.reads]), strict=True
            ):
                values[number] = value
        return [values[i] for i in wanted]


def bind(operation: Operation, values: Sequence[Any]) -> list[Any]:
    """The results of one operation."""
    primitive = operation.primitive
    params = primitive.get_bind_params(operation.params)
    functions, params = params if isinstance(params, tuple) else ((), params)  # older JAX
    result = primitive.bind(*functions, *values, **params)
    return list(result) if primitive.multiple_results else [result]


def flatten(function: Callable[..., Any], *examples: Any) -> tuple[Program, Any]:
    """The program of `function` for arguments like `examples`, and the structure of its result."""
    closed, result = jax.make_jaxpr(function, return_shape=True)(*examples)
    writer = _Writer()
    inputs = tuple(writer.new(var.aval) for var in closed.jaxpr.invars)
    outputs = tuple(writer.inline(closed.jaxpr, closed.consts, inputs))
    return writer.program(inputs, outputs), result


class _Writer:
    """Writes out a program while calls inside it are opened."""

    def __init__(self):
        self.shapes: dict[int, jax.ShapeDtypeStruct] = {}
        self.constants: dict[int, Any] = {}
        self.operations: list[Operation] = []
        self.callers: list[Any] = []

    def new(self, aval: Any) -> int:
        number = len(self.shapes)
        self.shapes[number] = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        return number

    def constant(self, value: Any) -> int:
        number = self.new(jax.typeof(value))
        self.constants[number] = value
        return number

    def inline(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[int]) -> Iterator[int]:
        """Write the operations of `jaxpr`; its outputs, once they are all written."""
        numbers = dict(zip(jaxpr.invars, inputs, strict=True))
        numbers |= {var: self.constant(c) for var, c in zip(jaxpr.constvars, consts, strict=True)}

        def number(atom: Any) -> int:
            return self.constant(atom.val) if isinstance(atom, core.Literal) else numbers[atom]

        for equation in jaxpr.eqns:
            reads = tuple(number(atom) for atom in equation.invars)
            numbers |= zip(equation.outvars, self._write(equation, reads), strict=True)
        return iter([number(atom) for atom in jaxpr.outvars])

    def _write(self, equation: Any, reads: tuple[int, ...]) -> Sequence[int]:
        self.callers.append(equation.source_info)
        made = self._opened(equation, reads)
        sources = tuple(self.callers[::-1])
        self.callers.pop()
        if made is not None:
            return made
        makes = tuple(self.new(var.aval) for var in equation.outvars)
        operation = Operation(equation.primitive, equation.params, reads, makes, sources)
        if all(i in self.constants for i in reads):
            with jax.ensure_compile_time_eval():
                values = bind(operation, [self.constants[i] for i in reads])
            self.constants |= zip(makes, values, strict=True)
        else:
            self.operations.append(operation)
        return makes

    def _opened(self, equation: Any, reads: tuple[int, ...]) -> Sequence[int] | None:
        """What a call makes, once the operations inside are written; `None` if it is none."""
        if equation.primitive.name == "scan" and equation.params["length"] <= LONGEST:
            return self._unroll(equation.params, reads)
        if equation.primitive.name not in CONTROL and (inner := _called(equation)):
            return list(self.inline(*inner, reads))
        return None

    def _unroll(self, params: dict[str, Any], reads: tuple[int, ...]) -> Sequence[int]:
        """The steps of a scan, one after the other."""
        body, fixed, carried = params["jaxpr"], params["num_consts"], params["num_carry"]
        consts, carry = reads[:fixed], list(reads[fixed : fixed + carried])
        stacked, made = reads[fixed + carried :], []
        steps = range(params["length"])
        for i in reversed(steps) if params["reverse"] else steps:
            rows = [
                self._call(partial(jax.lax.index_in_dim, index=i, keepdims=False), x)
                for x in stacked
            ]
            results = list(self.inline(body.jaxpr, body.consts, (*consts, *carry, *rows)))
            carry, row = results[:carried], results[carried:]
            made.append(row)
        made = made[::-1] if params["reverse"] else made
        return [*carry, *(self._call(_stack, *column) for column in zip(*made, strict=True))]

    def _call(self, function: Callable[..., Any], *numbers: int) -> int:
        """Write the operations of a function of values."""
        closed = jax.make_jaxpr(function)(*(self.shapes[i] for i in numbers))
        (made,) = self.inline(closed.jaxpr, closed.consts, numbers)
        return made

    def program(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Program:
        """The program without operations that nothing needs."""
        needed, kept = set(outputs), []
        for operation in reversed(self.operations):
            if needed & set(operation.makes):
                needed |= set(operation.reads)
                kept.append(operation)
        constants = {i: c for i, c in self.constants.items() if i in needed}
        return Program(inputs, outputs, constants, tuple(kept[::-1]), self.shapes)


def _stack(*rows: Array) -> Array:
    return jax.numpy.stack(rows)


def unstack(program: Program) -> tuple[Program, list[tuple[int, int | None]]]:
    """The program with an input for each entry of inputs that are only read entry by entry.

    Such are the weights of layers of one kind, stacked along their first axis. For each input but
    the last: the number of the old one, and which entry it is.
    """
    *weights, x = program.inputs
    entries = {number: _entries(program, number) for number in weights}
    origins: list[tuple[int, int | None]] = []
    inputs: list[int] = []
    shapes, renamed = dict(program.shapes), {}
    for place, number in enumerate(weights):
        found = entries[number]
        if found is None:
            origins.append((place, None))
            inputs.append(number)
            continue
        for i in range(shapes[number].shape[0]):
            origins.append((place, i))
            inputs.append(len(shapes))
            whole = shapes[number]
            shapes[len(shapes)] = jax.ShapeDtypeStruct((1, *whole.shape[1:]), whole.dtype)
            renamed |= {made: inputs[-1] for made, entry in found.items() if entry == i}
    kept = [o for o in program.operations if not set(o.makes) & renamed.keys()]
    operations = tuple(
        dataclasses.replace(o, reads=tuple(renamed.get(i, i) for i in o.reads)) for o in kept
    )
    outputs = tuple(renamed.get(i, i) for i in program.outputs)
    return Program((*inputs, x), outputs, program.constants, operations, shapes), origins


def _entries(program: Program, number: int) -> dict[int, int] | None:
    """The values that are one entry of an input each, and which; `None` if it has other uses."""
    shape = program.shapes[number].shape
    found: dict[int, int] = {}
    for operation in (o for o in program.operations if number in o.reads):
        if operation.name == "slice" and set(operation.params["strides"] or (1,)) == {1}:
            starts, ends = operation.params["start_indices"], operation.params["limit_indices"]
            sizes = tuple(end - start for start, end in zip(starts, ends, strict=True))
            first = starts[0]
        elif operation.name == "dynamic_slice" and operation.reads[1] in program.constants:
            sizes, first = (
                operation.params["slice_sizes"],
                int(program.constants[operation.reads[1]]),
            )
        else:
            return None
        if sizes != (1, *shape[1:]) or operation.reads[0] != number:
            return None
        found[operation.makes[0]] = first
    return found or None


def _called(equation: Any) -> tuple[Any, Sequence[Any]] | None:
    """The one program that an operation calls on all it reads, with its constants."""
    for value in equation.params.values():
        if isinstance(value, core.ClosedJaxpr) and len(value.jaxpr.invars) == len(equation.invars):
            return value.jaxpr, value.consts
        if isinstance(value, core.Jaxpr) and len(value.invars) == len(equation.invars):
            return value, ()
    return None
