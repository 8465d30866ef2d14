"""What each operation of JAX does to neurons and their factors: a table of rules by primitive."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from wfm.weights.trace.nodes import CannotSplit
from wfm.weights.trace.program import Operation
from wfm.weights.trace.values import Analysis, Atom, Axis, Factor, Value

Rule = Callable[..., list[Value]]
RULES: dict[str, Rule] = {}


def rule(*names: str, **options: Any) -> Callable[[Callable], Callable]:
    """Register a rule, which makes values from `(analysis, operation, *values)`."""

    def register(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, partial(function, **options)))
        return function

    return register


def unknown(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    """An operation that nobody described: all it touches keeps its order and scale."""
    why = "no rule says what it does"
    for value in values:
        run.fix(value.axes, why)
        for axis in value.axes:
            run.break_(axis, why)
    return [_fixed(run, made.shape, values, why) for made in run.made]


def _fixed(run: Analysis, shape: tuple[int, ...], values: Any, why: str) -> Value:
    axes = tuple(run.fixed(n, why) for n in shape)
    return Value(axes, any(v.signal for v in values))


# Operations on entries


def _entrywise(run: Analysis, values: tuple[Value, ...], combine: Callable) -> tuple[Axis, ...]:
    """The axes of a result made from entries at the same place of all values."""
    axes = []
    for of_values in zip(*(v.axes for v in values), strict=True):
        columns = run.align(*of_values)
        alike = all(axis.factors is None for axis in of_values)
        factors = None if alike else tuple(combine(column) for column in columns)
        axes.append(Axis(of_values[0].size, factors))
    return tuple(axes)


def _sum(run: Analysis, values: tuple[Value, ...]) -> tuple[Axis, ...]:
    """Values that are added, or among which is chosen: all have the same factors."""
    counted = [i for i, v in enumerate(values) if not v.has_no_scale]

    def combine(column: list[Factor | None]) -> Factor:
        given = [column[i] for i in counted]
        for one in given[1:]:
            run.equal(given[0], one)
        present = [f for f in column if f]
        return max(present, key=lambda f: (bool(f.log or f.sign), -present.index(f)))

    return _entrywise(run, values, combine)


@rule("add", "sub", "add_any")
def _add(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = _spread(run, values)
    return [Value(_sum(run, values), any(v.signal for v in values))]


@rule("max", "min", "clamp")
def _extreme(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = _spread(run, values)
    axes = _sum(run, values)
    for value in values:
        _keep_sign(run, value, "of which the larger or smaller is taken")
    rectified = operation.name == "max" and any(v.is_zero for v in values)
    return [_unsigned(Value(axes, any(v.signal for v in values), rectified=rectified))]


def _spread(run: Analysis, values: Sequence[Value]) -> tuple[Value, ...]:
    """Values of one shape: scalars, and axes of size 1, are the same all along those of others."""
    rank = max(len(v.axes) for v in values)
    whole = [v if v.axes else dataclasses.replace(v, axes=(Axis(1),) * rank) for v in values]
    sizes = [max(axis.size for axis in axes) for axes in zip(*(v.axes for v in whole), strict=True)]

    def act(value: Value) -> Value:
        axes = []
        for axis, n in zip(value.axes, sizes, strict=True):
            if axis.size != n:
                run.drop(*axis.factors or ())
            axes.append(axis if axis.size == n else Axis(n))
        return dataclasses.replace(value, axes=tuple(axes))

    return tuple(map(act, whole))


def _keep_sign(run: Analysis, value: Value, why: str) -> None:
    for axis in value.axes:
        run.break_(axis, why, log=False)


def _unsigned(value: Value) -> Value:
    """The value without signs, once they are known to be positive."""
    axes = tuple(
        Axis(
            a.size, a.factors and tuple(dataclasses.replace(f, sign=frozenset()) for f in a.factors)
        )
        for a in value.axes
    )
    return dataclasses.replace(value, axes=axes)


@rule("select_n")
def _select(run: Analysis, operation: Operation, which: Value, *cases: Value) -> list[Value]:
    which, *cases = _spread(run, (which, *cases))
    _entrywise(run, (which, *cases), lambda column: next(f for f in column if f))
    for case in cases:
        if case.has_no_scale and not case.is_zero:
            for other in cases:
                _keep_sign(run, other, "beside infinity")
    axes = _entrywise(run, (_plain(which), Value(_sum(run, tuple(cases)))), _last)
    return [Value(axes, any(v.signal for v in (which, *cases)))]


def _last(column: list[Factor | None]) -> Factor:
    return next(f for f in reversed(column) if f)


def _plain(value: Value) -> Value:
    """The value without factors, such as one that only says true or false."""
    axes = (
        Axis(a.size, a.factors and tuple(Factor(f.node) for f in a.factors)) for a in value.axes
    )
    return Value(tuple(axes), value.signal)


@rule("gt", "ge", "lt", "le")
def _compare(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = _spread(run, values)
    axes = _sum(run, values)
    for value in values:
        _keep_sign(run, value, "in a comparison")
    return [_plain(Value(axes, any(v.signal for v in values)))]


@rule("eq", "ne")
def _equal(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = _spread(run, values)
    return [_plain(Value(_sum(run, values), any(v.signal for v in values)))]


@rule("and", "or", "xor", "not", "is_finite")
def _logic(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = _spread(run, values)
    values = tuple(map(_plain, values))
    return [Value(_sum(run, values), any(v.signal for v in values))]


@rule("mul", times=1)
@rule("div", times=-1)
def _times(run: Analysis, operation: Operation, a: Value, b: Value, times: int) -> list[Value]:
    a, b = _spread(run, (a, b))
    pairs = zip(a.axes, b.axes, strict=True)
    axes = tuple(multiply(run, a, x, b, y, times) for x, y in pairs)
    kept = (a.rectified and _positive(b)) or (b.rectified and times == 1 and _positive(a))
    return [Value(axes, a.signal or b.signal, rectified=kept)]


def _positive(value: Value) -> bool:
    return value.constant is not None and bool((np.asarray(value.constant) > 0).all())


# Functions of one value: what becomes of the logarithm of its factor, and of its sign.

PASS = ("neg", "stop_gradient", "reduce_precision", "copy", "real")
PASS += ("optimization_barrier", "sharding_constraint", "copy_p")
ODD = ("tanh", "erf", "sin", "tan", "asin", "atan", "sinh", "asinh", "atanh", "erf_inv")
BREAKING = ("exp", "exp2", "expm1", "log", "log1p", "logistic", "erfc", "lgamma", "digamma")
BREAKING += ("floor", "ceil", "round", "acos", "acosh", "bessel_i0e", "bessel_i1e")


@rule(*PASS)
def _pass(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [
        dataclasses.replace(x, constant=None, rectified=x.rectified and operation.name != "neg")
    ]


@rule("convert_element_type")
def _convert(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    if not jnp.issubdtype(operation.params["new_dtype"], jnp.inexact):
        _function(run, x, log=True, sign=True)  # rounded, or compared with 0
        return [_plain(x)]
    return [x]


def _function(run: Analysis, x: Value, log: bool, sign: bool) -> None:
    """Refuse other factors than 1 in size, in sign."""
    for axis in x.axes:
        run.break_(axis, "", log=log, sign=sign)


@rule(*ODD)
def _odd(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    _function(run, x, log=True, sign=False)
    return [run.with_scales(x, 1, sign=True)]


@rule("cos", "cosh")
def _even(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    _function(run, x, log=True, sign=False)
    return [run.with_scales(x, 1, sign=False)]


@rule("abs")
def _abs(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [run.with_scales(x, 1, sign=False)]


@rule("sign")
def _sign(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [run.with_scales(x, None, sign=True)]


@rule(*BREAKING)
def _break(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    _function(run, x, log=True, sign=True)
    return [run.with_scales(x, 1, sign=False)]


@rule("square")
def _square(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [dataclasses.replace(run.with_scales(x, 2, sign=False), rectified=x.rectified)]


@rule("integer_pow")
def _integer_power(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    power = operation.params["y"]
    made = run.with_scales(x, power, sign=power % 2 == 1)
    return [dataclasses.replace(made, rectified=x.rectified and power > 0)]


@rule("sqrt", power=Fraction(1, 2))
@rule("rsqrt", power=Fraction(-1, 2))
def _root(run: Analysis, operation: Operation, x: Value, power: Fraction) -> list[Value]:
    _function(run, x, log=False, sign=True)
    return [run.with_scales(x, power, sign=False)]


@rule("cbrt")
def _cube_root(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [run.with_scales(x, Fraction(1, 3), sign=True)]


@rule("pow")
def _power(run: Analysis, operation: Operation, x: Value, y: Value) -> list[Value]:
    x, y = _spread(run, (x, y))
    power = np.asarray(y.constant if y.constant is not None else np.nan)
    alike = power.size and np.ptp(power) == 0
    _function(run, x, log=not alike, sign=True)
    _function(run, y, log=True, sign=True)
    number = Fraction(float(power.flat[0])).limit_denominator(1000) if alike else None
    axes = _entrywise(
        run, (run.with_scales(x, number, sign=False), _plain(y)), lambda c: c[0] or c[1]
    )
    return [Value(axes, x.signal or y.signal)]


# Reductions


@rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or")
def _reduce(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    gone, name = operation.params["axes"], operation.name
    for i in gone:
        for factor in x.axes[i].factors or ():
            run.opposite(factor, None)
    kept = Value(tuple(a for i, a in enumerate(x.axes) if i not in gone), x.signal)
    if name in ("reduce_max", "reduce_min"):
        _keep_sign(run, kept, "of which the largest or smallest is taken")
        kept = _unsigned(kept)
    if name == "reduce_prod":
        number = int(np.prod([x.axes[i].size for i in gone]))
        kept = run.with_scales(kept, number, sign=number % 2 == 1)
    if name in ("reduce_and", "reduce_or"):
        kept = _plain(kept)
    sums = name in ("reduce_sum", "reduce_max")
    return [dataclasses.replace(kept, rectified=x.rectified and sums)]


@rule("argmax", "argmin")
def _arg(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    gone = operation.params["axes"]
    why = "the place of the largest entry is taken"
    run.fix([x.axes[i] for i in gone], why)
    for axis in x.axes:
        run.break_(axis, why, log=axis in [x.axes[i] for i in gone])
    return [_plain(Value(tuple(a for i, a in enumerate(x.axes) if i not in gone), x.signal))]


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulate(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    along = x.axes[operation.params["axis"]]
    why = "entries are accumulated in their order"
    run.fix([along], why)
    run.break_(along, why)
    others = [a for i, a in enumerate(x.axes) if i != operation.params["axis"]]
    if operation.name != "cumsum":
        for axis in others:
            run.break_(axis, why)
    made = run.fixed(along.size, why)
    axes = tuple(made if i == operation.params["axis"] else a for i, a in enumerate(x.axes))
    return [Value(axes, x.signal)]


# Shapes


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
    return [_moved(run, x, operation.params["dimensions"], "the order is reversed")]


def _moved(run: Analysis, x: Value, axes: Any, why: str, sizes: Any = None) -> Value:
    """The value with other places along these axes, and other sizes if these are given."""
    made = list(x.axes)
    for i in axes:
        size = x.axes[i].size if sizes is None else sizes[i]
        if x.axes[i].factors is None and sizes is None:
            continue
        run.fix([x.axes[i]], why)
        run.break_(x.axes[i], why)
        made[i] = run.fixed(size, why, ("moved", i))
    return Value(tuple(made), x.signal, rectified=x.rectified)


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
        return [_fixed(run, shape, (x,), why)]
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
    made = [a if isinstance(a, Factor) else (run.fixed(a, why).factors or ())[0] for a in atoms]
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
    axes = list(_sum(run, others))
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
        _keep_sign(run, x, "beside infinity")
    sizes = [
        axis.size + low + high + inside * max(axis.size - 1, 0)
        for axis, (low, high, inside) in zip(x.axes, config, strict=True)
    ]
    return [_moved(run, x, padded, "it is padded", sizes)]


@rule("gather")
def _gather(run: Analysis, operation: Operation, x: Value, places: Value) -> list[Value]:
    p = operation.params
    numbers, sizes = p["dimension_numbers"], p["slice_sizes"]
    out_rank = len(run.made[0].shape)
    batching = getattr(numbers, "operand_batching_dims", ())
    why = "entries are looked up by their place"
    whole = {i for i, n in enumerate(sizes) if n == x.axes[i].size and i not in batching}
    looked_up = [
        i for i in range(len(sizes)) if i not in whole or i in numbers.collapsed_slice_dims
    ]
    for i in looked_up:
        _look_up(run, x, x.axes[i], places.signal)
    gone = {*numbers.collapsed_slice_dims, *batching}
    through = iter([i for i in range(len(sizes)) if i not in gone])
    of_places = iter(places.axes[:-1])
    signal = x.signal or places.signal
    axes = []
    for place in range(out_rank):
        if place not in numbers.offset_dims:
            axes.append(_plain(Value((next(of_places),))).axes[0])
            continue
        i = next(through)
        axis = x.axes[i] if i in whole else run.fixed(sizes[i], why, ("looked up", i))
        axes.append(_first_said(run, axis) if signal and not x.signal else axis)
    return [Value(tuple(axes), signal)]


@rule("dynamic_slice")
def _dynamic_slice(run: Analysis, operation: Operation, x: Value, *starts: Value) -> list[Value]:
    sizes = operation.params["slice_sizes"]
    parts = [i for i, n in enumerate(sizes) if n != x.axes[i].size]
    signal = any(s.signal for s in starts)
    for i in parts:
        _look_up(run, x, x.axes[i], signal)
    made = _moved(run, x, parts, "a part of it is taken", sizes)
    if not signal or x.signal:
        return [made]
    axes = [a if i in parts else _first_said(run, a) for i, a in enumerate(made.axes)]
    return [Value(tuple(axes), True)]


def _look_up(run: Analysis, x: Value, axis: Axis, by_signal: bool) -> None:
    """Entries are taken by their place along this axis: weights by an input, as in embeddings."""
    why, is_input = "entries are looked up by their place", by_signal and not x.signal
    for f in run.factors(axis):
        run.nodes.pin(f.node, dataclasses.replace(run.pin(why), is_input=is_input))
        run.reads |= f.log.keys() if is_input else set()
    run.break_(axis, why)


def _first_said(run: Analysis, axis: Axis) -> Axis:
    factors = axis.factors and tuple(run.meet(f, f) for f in run.factors(axis))
    return Axis(axis.size, factors)


# Products


@rule("dot_general")
def _dot(run: Analysis, operation: Operation, a: Value, b: Value) -> list[Value]:
    (gone_a, gone_b), (batch_a, batch_b) = operation.params["dimension_numbers"]
    for i, j in zip(gone_a, gone_b, strict=True):
        contract(run, a, a.axes[i], b, b.axes[j])
    axes = [
        multiply(run, a, a.axes[i], b, b.axes[j]) for i, j in zip(batch_a, batch_b, strict=True)
    ]
    for value, other, used in ((a, b, (*gone_a, *batch_a)), (b, a, (*gone_b, *batch_b))):
        free = [axis for i, axis in enumerate(value.axes) if i not in used]
        axes += [pass_to(run, axis, value, other) for axis in free]
    return [Value(tuple(axes), a.signal or b.signal)]


def contract(run: Analysis, a: Value, x: Axis, b: Value, y: Axis) -> None:
    """Sum over products of entries along two axes: their factors cancel."""
    for f, g in run.align(x, y):
        if a.signal != b.signal:
            run.read(*((f, a, g) if a.signal else (g, b, f)))
        run.opposite(f, g)


def multiply(run: Analysis, a: Value, x: Axis, b: Value, y: Axis, times: int = 1) -> Axis:
    """Products of entries at the same places of two axes."""
    made = []
    for f, g in run.align(x, y):
        node = next(h for h in (f, g) if h).node
        total = run.add(f or Factor(node), g or Factor(node), times)
        signal, value, weights = (f, a, g) if a.signal else (g, b, f)
        if a.signal != b.signal and weights:
            if signal:
                run.read(signal, value, weights)
                for unknown in weights.log:
                    run.beside.setdefault(unknown, signal.log)
            total = run.meet(total, weights, entrywise=True)
        elif f and g and a.signal:  # a gain may have met what signals are divided by first
            gains = [h for h in (f, g) if run.scales.is_gain(h.log)]
            total = run.meet(total, gains[0], entrywise=True) if gains else total
        made.append(total)
    return Axis(x.size, tuple(made) or None)


def pass_to(run: Analysis, axis: Axis, value: Value, other: Value) -> Axis:
    """A free axis of one value in a product with another: weights say their first word here."""
    if axis.factors is None or value.signal or not other.signal:
        return axis
    return _first_said(run, axis)


@rule("conv_general_dilated")
def _convolve(run: Analysis, operation: Operation, x: Value, kernel: Value) -> list[Value]:
    p = operation.params
    if p["batch_group_count"] != 1:
        return unknown(run, operation, x, kernel)
    of_x, of_kernel, of_made = p["dimension_numbers"]
    groups = p["feature_group_count"]
    why = "places of a convolution have an order"
    run.fix([kernel.axes[i] for i in of_kernel[2:]], why)
    run.fix([x.axes[i] for i in of_x[2:]], why)
    for axis in [kernel.axes[i] for i in of_kernel[2:]] + [x.axes[i] for i in of_x[2:]]:
        run.break_(axis, why)
    features, out = x.axes[of_x[1]], kernel.axes[of_kernel[0]]
    read = kernel.axes[of_kernel[1]]
    if groups == 1:
        contract(run, x, features, kernel, read)
        made = pass_to(run, out, kernel, x)
    else:
        made = _by_groups(run, groups, x, features, kernel, read, out)
        if made is None:
            return unknown(run, operation, x, kernel)
    shape = run.made[0].shape
    axes: list[Axis | None] = [None] * len(shape)
    axes[of_made[0]], axes[of_made[1]] = x.axes[of_x[0]], made
    for number, i in enumerate(of_made[2:]):
        axes[i] = run.fixed(shape[i], why, ("space", number))
    return [Value(tuple(a for a in axes if a), x.signal or kernel.signal)]


def _by_groups(
    run: Analysis, groups: int, x: Value, features: Axis, kernel: Value, read: Axis, out: Axis
) -> Axis | None:
    """Outputs of a grouped convolution: each group of features has its own kernels."""
    if features.factors is None or out.factors is None:
        return None
    try:
        before, inner = run.take(run.factors(features), groups)
        after, own = run.take(run.factors(out), groups)
    except CannotSplit:
        return None
    if inner:
        contract(run, x, Axis(read.size, tuple(inner)), kernel, read)
    else:
        run.drop(*read.factors or ())
    joint = multiply(run, x, Axis(groups, tuple(before)), kernel, Axis(groups, tuple(after)))
    rest = pass_to(run, Axis(out.size // groups, tuple(own)), kernel, x)
    return Axis(out.size, (*(joint.factors or ()), *(rest.factors or ())))


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _pool(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    p = operation.params
    each = zip(p["window_dimensions"], p["window_strides"], p["padding"], strict=True)
    pooled = [i for i, (n, step, pad) in enumerate(each) if n > 1 or step > 1 or any(pad)]
    if operation.name != "reduce_window_sum":
        _keep_sign(run, x, "of which the largest or smallest is taken")
        x = dataclasses.replace(_unsigned(x), rectified=x.rectified)
    return [_moved(run, x, pooled, "it is pooled", run.made[0].shape)]
