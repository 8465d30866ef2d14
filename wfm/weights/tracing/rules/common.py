"""What several rules are made of."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from wfm.weights.tracing.values import Analysis, Axis, Factor, Value


def entrywise(run: Analysis, values: tuple[Value, ...], combine: Callable) -> tuple[Axis, ...]:
    """The axes of a result made from entries at the same place of all values."""
    axes = []
    for of_values in zip(*(v.axes for v in values), strict=True):
        columns = run.align(*of_values)
        alike = all(axis.factors is None for axis in of_values)
        factors = None if alike else tuple(combine(column) for column in columns)
        axes.append(Axis(of_values[0].size, factors))
    return tuple(axes)


def of_sum(run: Analysis, values: tuple[Value, ...]) -> tuple[Axis, ...]:
    """Values that are added, or among which is chosen: all have the same factors."""
    counted = [i for i, v in enumerate(values) if not v.has_no_scale]

    def combine(column: list[Factor | None]) -> Factor:
        given = [column[i] for i in counted]
        for one in given[1:]:
            run.equal(given[0], one)
        present = [f for f in column if f]
        return max(present, key=lambda f: (bool(f.log or f.sign), -present.index(f)))

    return entrywise(run, values, combine)


def spread(run: Analysis, values: Sequence[Value]) -> tuple[Value, ...]:
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


def keep_sign(run: Analysis, value: Value, why: str) -> None:
    for axis in value.axes:
        run.break_(axis, why, log=False)


def unsigned(value: Value) -> Value:
    """The value without signs, once they are known to be positive."""
    return value.with_factors(lambda f: dataclasses.replace(f, sign=frozenset()))


def plain(value: Value) -> Value:
    """The value without factors, such as one that only says true or false."""
    return Value(value.with_factors(lambda f: Factor(f.node)).axes, value.signal)


def refuse(run: Analysis, x: Value, log: bool, sign: bool) -> None:
    """Refuse other factors than 1 in size, in sign."""
    for axis in x.axes:
        run.break_(axis, "", log=log, sign=sign)


def moved(run: Analysis, x: Value, axes: Any, why: str, sizes: Any = None) -> Value:
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


def first_said(run: Analysis, axis: Axis) -> Axis:
    factors = axis.factors and tuple(run.meet(f, f) for f in run.factors(axis))
    return Axis(axis.size, factors)
