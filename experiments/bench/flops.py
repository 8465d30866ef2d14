"""Floating-point operations that work needs, and the rate of a machine."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from experiments.bench.clock import timed

SIDE = 3000  # of the matrices used to measure the machine
SHORTEST = 5e-3
IN_A_ROW = 10  # products, and so many times, to see those of microseconds


class Product(NamedTuple):
    """A matrix product: its two factors, and the axes that it contracts and stacks."""

    factors: tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]
    axes: Any

    def flops(self) -> int:
        """Two operations for each multiplication and addition."""
        (contracted, _), _ = self.axes
        result = jax.eval_shape(self.of, *self.factors)
        depth = math.prod(self.factors[0].shape[axis] for axis in contracted)
        return 2 * depth * math.prod(result.shape)

    def of(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """The product of two such arrays."""
        return jax.lax.dot_general(a, b, self.axes)


def products(f: Callable[..., Any], *args: Any) -> Counter[Product]:
    """The matrix products of `f(*args)`, and how often each is computed."""
    return _count(jax.make_jaxpr(f)(*args).jaxpr)


def product_flops(f: Callable[..., Any], *args: Any) -> int:
    """Operations of all matrix products in `f(*args)`.

    Everything else, such as norms and activations, is not counted.
    """
    return sum(times * product.flops() for product, times in products(f, *args).items())


def product_seconds(f: Callable[..., Any], *args: Any) -> float:
    """Seconds of the same products without anything between them: what `f` takes at least."""
    return sum(times * _seconds(product) for product, times in products(f, *args).items())


def _seconds(product: Product) -> float:
    """Seconds of one product, in a chain of them."""
    key = jax.random.key(0)
    a, b = (jax.random.normal(key, x.shape, x.dtype) for x in product.factors)
    if not a.size * b.size:
        return 0.0

    def after(c: jax.Array, nothing: None) -> tuple[jax.Array, None]:
        for _ in range(IN_A_ROW):  # each waits for an entry of the last one
            c = c / 2 + 1e-9 * product.of(a + c, b).ravel()[0]
        return c, nothing

    chain = jax.jit(lambda c: jax.lax.scan(after, c, length=IN_A_ROW)[0])
    zero = jnp.zeros((), a.dtype)
    return timed(lambda: jax.block_until_ready(chain(zero)))["median"] / IN_A_ROW**2


def _count(jaxpr: Jaxpr) -> Counter[Product]:
    found: Counter[Product] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            avals: list[Any] = [v.aval for v in equation.invars]
            a, b = (jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals)
            found[Product((a, b), equation.params["dimension_numbers"])] += 1
            continue
        times = equation.params.get("length", 1)  # of a scan
        for inner in _inside(equation.params):
            for product, n in _count(inner).items():
                found[product] += times * n
    return found


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
