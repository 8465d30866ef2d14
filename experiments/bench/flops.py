"""Floating-point operations that work needs, and the rate of a machine."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from experiments.bench.clock import timed

SIDE = 3000  # of the matrices used to measure the machine
SHORTEST = 5e-3


def product_flops(f: Callable[..., Any], *args: Any) -> int:
    """Operations of all matrix products in `f(*args)`, two for each multiplication and addition.

    Everything else, such as norms and activations, is not counted.
    """
    return _count(jax.make_jaxpr(f)(*args).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2 * depth * math.prod(equation.outvars[0].aval.shape)
    times = equation.params.get("length", 1)  # of a scan
    return times * sum(map(_count, _inside(equation.params)))


def _inside(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def matmul_rate(dtype: Any = jnp.float32) -> float:
    """Operations per second of a large product, over all devices: the rate to compare with.

    Devices that need less than `SHORTEST` seconds for it get larger matrices.
    """
    rate, seconds = _rate(SIDE, dtype)
    return max(rate, _rate(3 * SIDE, dtype)[0]) if seconds < SHORTEST else rate


def _rate(side: int, dtype: Any) -> tuple[float, float]:
    n = jax.local_device_count()
    matrices = jax.random.normal(jax.random.key(0), (n, side, side), dtype)
    mesh = jax.make_mesh((n,), ("all",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
    matrices = jax.device_put(matrices, spread)
    square = jax.jit(lambda a: jnp.matmul(a, a))
    seconds = timed(lambda: jax.block_until_ready(square(matrices)))
    return n * 2 * side**3 / seconds["median"], seconds["median"]
