"""The table of rules by primitive, and what is done without one."""

from collections.abc import Callable
from functools import partial
from typing import Any

from wfm.weights.tracing.program import Operation
from wfm.weights.tracing.values import Analysis, Value

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
    return [fixed_value(run, made.shape, values, why) for made in run.made]


def fixed_value(run: Analysis, shape: tuple[int, ...], values: Any, why: str) -> Value:
    axes = tuple(run.fixed(n, why) for n in shape)
    return Value(axes, any(v.signal for v in values))
