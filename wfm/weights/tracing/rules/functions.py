"""Functions of one value: what becomes of the size of its factors, and of their sign."""

import dataclasses
from fractions import Fraction

import jax.numpy as jnp
import numpy as np

from wfm.weights.tracing.program import Operation
from wfm.weights.tracing.rules.common import entrywise, plain, refuse, spread
from wfm.weights.tracing.rules.table import rule
from wfm.weights.tracing.values import Analysis, Value

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
        refuse(run, x, log=True, sign=True)  # rounded, or compared with 0
        return [plain(x)]
    return [x]


@rule(*ODD)
def _odd(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    refuse(run, x, log=True, sign=False)
    return [run.with_scales(x, 1, sign=True)]


@rule("cos", "cosh")
def _even(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    refuse(run, x, log=True, sign=False)
    return [run.with_scales(x, 1, sign=False)]


@rule("abs")
def _abs(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [run.with_scales(x, 1, sign=False)]


@rule("sign")
def _sign(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [run.with_scales(x, None, sign=True)]


@rule(*BREAKING)
def _break(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    refuse(run, x, log=True, sign=True)
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
    refuse(run, x, log=False, sign=True)
    return [run.with_scales(x, power, sign=False)]


@rule("cbrt")
def _cube_root(run: Analysis, operation: Operation, x: Value) -> list[Value]:
    return [run.with_scales(x, Fraction(1, 3), sign=True)]


@rule("pow")
def _power(run: Analysis, operation: Operation, x: Value, y: Value) -> list[Value]:
    x, y = spread(run, (x, y))
    power = np.asarray(y.constant if y.constant is not None else np.nan)
    alike = power.size and np.ptp(power) == 0
    refuse(run, x, log=not alike, sign=True)
    refuse(run, y, log=True, sign=True)
    number = Fraction(float(power.flat[0])).limit_denominator(1000) if alike else None
    axes = entrywise(
        run, (run.with_scales(x, number, sign=False), plain(y)), lambda c: c[0] or c[1]
    )
    return [Value(axes, x.signal or y.signal)]
