"""Operations on entries at the same place of several values."""

import numpy as np

from wfm.weights.tracing.program import Operation
from wfm.weights.tracing.rules.common import entrywise, keep_sign, of_sum, plain, spread, unsigned
from wfm.weights.tracing.rules.products import multiply
from wfm.weights.tracing.rules.table import rule
from wfm.weights.tracing.values import Analysis, Factor, Value


@rule("add", "sub", "add_any")
def _add(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = spread(run, values)
    return [Value(of_sum(run, values), any(v.signal for v in values))]


@rule("max", "min", "clamp")
def _extreme(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = spread(run, values)
    axes = of_sum(run, values)
    for value in values:
        keep_sign(run, value, "of which the larger or smaller is taken")
    rectified = operation.name == "max" and any(v.is_zero for v in values)
    return [unsigned(Value(axes, any(v.signal for v in values), rectified=rectified))]


@rule("select_n")
def _select(run: Analysis, operation: Operation, which: Value, *cases: Value) -> list[Value]:
    which, *rest = spread(run, (which, *cases))
    cases = tuple(rest)
    entrywise(run, (which, *cases), lambda column: next(f for f in column if f))
    for case in cases:
        if case.has_no_scale and not case.is_zero:
            for other in cases:
                keep_sign(run, other, "beside infinity")
    axes = entrywise(run, (plain(which), Value(of_sum(run, cases))), _last)
    return [Value(axes, any(v.signal for v in (which, *cases)))]


def _last(column: list[Factor | None]) -> Factor:
    return next(f for f in reversed(column) if f)


@rule("gt", "ge", "lt", "le")
def _compare(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = spread(run, values)
    axes = of_sum(run, values)
    for value in values:
        keep_sign(run, value, "in a comparison")
    return [plain(Value(axes, any(v.signal for v in values)))]


@rule("eq", "ne")
def _equal(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = spread(run, values)
    return [plain(Value(of_sum(run, values), any(v.signal for v in values)))]


@rule("and", "or", "xor", "not", "is_finite")
def _logic(run: Analysis, operation: Operation, *values: Value) -> list[Value]:
    values = spread(run, values)
    values = tuple(map(plain, values))
    return [Value(of_sum(run, values), any(v.signal for v in values))]


@rule("mul", times=1)
@rule("div", times=-1)
def _times(run: Analysis, operation: Operation, a: Value, b: Value, times: int) -> list[Value]:
    a, b = spread(run, (a, b))
    pairs = zip(a.axes, b.axes, strict=True)
    axes = tuple(multiply(run, a, x, b, y, times) for x, y in pairs)
    kept = (a.rectified and _positive(b)) or (b.rectified and times == 1 and _positive(a))
    return [Value(axes, a.signal or b.signal, rectified=kept)]


def _positive(value: Value) -> bool:
    return value.constant is not None and bool((np.asarray(value.constant) > 0).all())
