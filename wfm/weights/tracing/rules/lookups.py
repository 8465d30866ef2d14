"""Entries that are looked up by their place."""

import dataclasses

from wfm.weights.tracing.program import Operation
from wfm.weights.tracing.rules.common import first_said, moved, plain
from wfm.weights.tracing.rules.table import rule
from wfm.weights.tracing.values import Analysis, Axis, Value


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
            axes.append(plain(Value((next(of_places),))).axes[0])
            continue
        i = next(through)
        axis = x.axes[i] if i in whole else run.fixed(sizes[i], why, ("looked up", i))
        axes.append(first_said(run, axis) if signal and not x.signal else axis)
    return [Value(tuple(axes), signal)]


@rule("dynamic_slice")
def _dynamic_slice(run: Analysis, operation: Operation, x: Value, *starts: Value) -> list[Value]:
    sizes = operation.params["slice_sizes"]
    parts = [i for i, n in enumerate(sizes) if n != x.axes[i].size]
    signal = any(s.signal for s in starts)
    for i in parts:
        _look_up(run, x, x.axes[i], signal)
    made = moved(run, x, parts, "a part of it is taken", sizes)
    if not signal or x.signal:
        return [made]
    axes = [a if i in parts else first_said(run, a) for i, a in enumerate(made.axes)]
    return [Value(tuple(axes), True)]


def _look_up(run: Analysis, x: Value, axis: Axis, by_signal: bool) -> None:
    """Entries are taken by their place along this axis: weights by an input, as in embeddings."""
    why, is_input = "entries are looked up by their place", by_signal and not x.signal
    for f in run.factors(axis):
        run.nodes.pin(f.node, dataclasses.replace(run.pin(why), is_input=is_input))
        run.reads |= f.log.keys() if is_input else set()
    run.break_(axis, why)
