"""Sums, largest entries and the like, along axes and in windows."""

import dataclasses

import numpy as np

from wfm.weights.tracing.program import Operation
from wfm.weights.tracing.rules.common import keep_sign, moved, plain, unsigned
from wfm.weights.tracing.rules.table import rule
from wfm.weights.tracing.values import Analysis, Value


@rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or")
def _reduce(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    gone, name = operation.params["axes"], operation.name
    for i in gone:
        for factor in x.axes[i].factors or ():
            run.opposite(factor, None)
            if x.signal:
                run.collapse(factor)
    kept = Value(tuple(a for i, a in enumerate(x.axes) if i not in gone), x.signal)
    if name in ("reduce_max", "reduce_min"):
        keep_sign(run, kept, "of which the largest or smallest is taken")
        kept = unsigned(kept)
    if name == "reduce_prod":
        number = int(np.prod([x.axes[i].size for i in gone]))
        kept = run.with_scales(kept, number, sign=number % 2 == 1)
    if name in ("reduce_and", "reduce_or"):
        kept = plain(kept)
    sums = name in ("reduce_sum", "reduce_max")
    return [dataclasses.replace(kept, rectified=x.rectified and sums)]


@rule("argmax", "argmin")
def _arg(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    gone = operation.params["axes"]
    why = "the place of the largest entry is taken"
    run.fix([x.axes[i] for i in gone], why)
    for axis in x.axes:
        run.break_(axis, why, log=axis in [x.axes[i] for i in gone])
    return [plain(Value(tuple(a for i, a in enumerate(x.axes) if i not in gone), x.signal))]


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


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _pool(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    p = operation.params
    each = zip(p["window_dimensions"], p["window_strides"], p["padding"], strict=True)
    pooled = [i for i, (n, step, pad) in enumerate(each) if n > 1 or step > 1 or any(pad)]
    if operation.name != "reduce_window_sum":
        keep_sign(run, x, "of which the largest or smallest is taken")
        x = dataclasses.replace(unsigned(x), rectified=x.rectified)
    return [moved(run, x, pooled, "it is pooled", run.made[0].shape)]
