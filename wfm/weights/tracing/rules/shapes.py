"""Operations that move entries."""

import dataclasses
import math

from wfm.weights.tracing.nodes import CannotSplit
from wfm.weights.tracing.program import Operation
from wfm.weights.tracing.rules.common import keep_sign, moved, of_sum
from wfm.weights.tracing.rules.table import fixed_value, rule
from wfm.weights.tracing.values import Analysis, Atom, Axis, Factor, Value


@rule("broadcast_in_dim")
def _broadcast(run: Analysis, operation: Operation, x: Value, *dynamic: Value) -> list[Value]:
    shape, places = operation.params["shape"], operation.params["broadcast_dimensions"]
    axes = [Axis(n) for n in shape]
    for place, axis in zip(places, x.axes, strict=True):
        if axis.size == shape[place]:
            axes[place] = axis
        else:
            run.drop(*axis.factors or ())
    return [Value(tuple(axes), x.signal, rectified=x.rectified)]


@rule("squeeze")
def _squeeze(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    gone = operation.params["dimensions"]
    run.drop(*(f for i in gone for f in x.axes[i].factors or ()))
    axes = tuple(a for i, a in enumerate(x.axes) if i not in gone)
    return [Value(axes, x.signal, rectified=x.rectified)]


@rule("transpose")
def _transpose(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    axes = tuple(x.axes[i] for i in operation.params["permutation"])
    return [Value(axes, x.signal, rectified=x.rectified)]


@rule("rev")
def _reverse(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [moved(run, x, operation.params["dimensions"], "the order is reversed")]


@rule("reshape")
def _reshape(run: Analysis, operation: Operation, x: Value, *dynamic: Value) -> list[Value]:
    shape = operation.params["new_sizes"]
    atoms: list[Atom] = []
    for axis in x.axes:
        atoms += [axis.size] if axis.factors is None else run.factors(axis)
    if [n for n in x.shape if n > 1] == [n for n in shape if n > 1]:
        return [_with_ones(run, x, shape)]
    axes = []
    try:
        for n in shape:
            taken, atoms = run.take(atoms, n)
            axes.append(_axis_of(run, taken))
    except CannotSplit:
        why = "a reshape mixes it with others"
        run.fix(x.axes, why)
        for axis in x.axes:
            run.break_(axis, why)
        return [fixed_value(run, shape, (x,), why)]
    return [Value(tuple(axes), x.signal, rectified=x.rectified)]


def _with_ones(run: Analysis, x: Value, shape: tuple[int, ...]) -> Value:
    """The value with axes of size 1 added and left out, and kept where they can be."""
    if x.shape == shape:
        return x
    axes, rest = [], list(x.axes)
    for n in shape:
        while rest and rest[0].size != n and rest[0].size == 1:
            run.drop(*rest.pop(0).factors or ())
        axes.append(rest.pop(0) if rest and rest[0].size == n else Axis(1))
    run.drop(*(f for axis in rest for f in axis.factors or ()))
    return dataclasses.replace(x, axes=tuple(axes), constant=None)


def _axis_of(run: Analysis, atoms: list[Atom]) -> Axis:
    """One axis of these; the same all along only if all atoms are."""
    size = math.prod(run.size(atom) for atom in atoms)
    if all(isinstance(atom, int) for atom in atoms):
        return Axis(size)
    why = "a reshape repeats it"
    made: list[Factor] = []
    for atom in atoms:
        made += [atom] if isinstance(atom, Factor) else run.factors(run.fixed(atom, why))
    return Axis(size, tuple(made))


@rule("slice")
def _slice(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    p = operation.params
    starts, stops = p["start_indices"], p["limit_indices"]
    steps = p["strides"] or (1,) * len(starts)
    axes = [
        _part(run, axis, start, stop, step, i)
        for i, (axis, start, stop, step) in enumerate(
            zip(x.axes, starts, stops, steps, strict=True)
        )
    ]
    return [Value(tuple(axes), x.signal, rectified=x.rectified)]


def _part(run: Analysis, axis: Axis, start: int, stop: int, step: int, key: object) -> Axis:
    """A part of an axis. Equal parts of an axis split it, as queries, keys and values do."""
    size = int(-(-(stop - start) // step))
    if size == axis.size or axis.factors is None:
        return Axis(size, axis.factors)
    why = "a part of it is taken"
    whole = step == 1 and size > 0 and axis.size % size == 0 and start % size == 0
    if whole and not run.is_fixed(axis):
        try:
            first, rest = run.take(run.factors(axis), axis.size // size)
        except CannotSplit:
            pass
        else:
            of_parts = Axis(axis.size // size, tuple(first))
            run.fix([of_parts], why)
            run.break_(of_parts, why)
            return Axis(size, tuple(rest))
    run.fix([axis], why)
    run.break_(axis, why)
    return run.fixed(size, why, ("part", key))


@rule("split")
def _split(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    along, made, start = operation.params["axis"], [], 0
    for number, size in enumerate(map(int, operation.params["sizes"])):
        part = _part(run, x.axes[along], start, start + size, 1, number)
        axes = tuple(part if i == along else a for i, a in enumerate(x.axes))
        made.append(Value(axes, x.signal, rectified=x.rectified))
        start += size
    return made


@rule("concatenate")
def _concatenate(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    along = operation.params["dimension"]
    others = tuple(
        Value(tuple(a for i, a in enumerate(v.axes) if i != along), v.signal, v.constant)
        for v in values
    )
    axes = list(of_sum(run, others))
    axes.insert(along, _joined(run, [v.axes[along] for v in values]))
    rectified = all(v.rectified for v in values)
    return [Value(tuple(axes), any(v.signal for v in values), rectified=rectified)]


def _joined(run: Analysis, parts: list[Axis]) -> Axis:
    """Axes one after the other. Parts of one size are joined, so that they are permuted alike."""
    size, n = sum(p.size for p in parts), len(parts)
    if n == 1:
        return parts[0]
    why = "other things stand beside it on its axis"
    free = not any(p.factors is None or run.is_fixed(p) for p in parts)
    if free and len({p.size for p in parts}) == 1:
        columns = run.align(*parts)
        for column in columns:
            for other in column[1:]:
                run.equal(column[0], other)
        which = run.fixed(n, "they stand one after the other", "parts").factors
        assert which is not None
        return Axis(size, (*which, *(c[0] for c in columns if c[0])))
    run.fix(parts, why)
    for part in parts:
        run.break_(part, why)
    return run.fixed(size, why, "joined")


@rule("pad")
def _pad(run: Analysis, operation: Operation, x: Value, value: Value) -> list[Value]:
    config = operation.params["padding_config"]
    padded = [i for i, (low, high, inside) in enumerate(config) if low or high or inside]
    if not value.has_no_scale:
        for axis in x.axes:
            run.break_(axis, "beside a constant")
    elif not value.is_zero:
        keep_sign(run, x, "beside infinity")
    sizes = [
        axis.size + low + high + inside * max(axis.size - 1, 0)
        for axis, (low, high, inside) in zip(x.axes, config, strict=True)
    ]
    return [moved(run, x, padded, "it is padded", sizes)]
