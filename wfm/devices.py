"""Many devices: one mesh with a single axis, along which batches are spread."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PyTree

from wfm.batching import first_rows, rows_from
from wfm.errors import UserError

__all__ = ["device_mesh", "mean_over", "most", "replicate", "spread"]

AXIS = "batch"


def device_mesh(n: int | None = None) -> Mesh:
    """A mesh of the first `n` devices, by default of all, including those of other processes."""
    devices = jax.devices()
    n = len(devices) if n is None else n
    if not 1 <= n <= len(devices):
        raise UserError(
            f"{n} devices asked for, but JAX sees {len(devices)} ({devices[0].device_kind}); ask "
            f"for no more, or make more of a CPU with JAX_NUM_CPU_DEVICES={max(n, 1)}"
        )
    return Mesh(np.array(devices[:n]), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same arrays on every device; without a mesh, where they are.

    All processes must give the same arrays; this is checked.
    """
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, P())
    if everywhere.is_fully_addressable:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(partial(_to_all_processes, everywhere), tree)


def _to_all_processes(everywhere: NamedSharding, a: Any) -> Array:
    """One array of all processes, from an array that each process holds."""
    if isinstance(a, jax.Array) and not a.is_fully_addressable:
        return jax.device_put(a, everywhere)
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):  # device_put cannot send these that far
        bits = jax.device_put(np.asarray(jax.random.key_data(a)), everywhere)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(a))
    return jax.device_put(np.asarray(a), everywhere)


def mean_over(f: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """Mean of `f(shared, share)` over equal shares of stacked inputs, one share per device."""
    if mesh is None:
        return f

    def on_each(shared: PyTree, share: PyTree) -> PyTree:
        # One vector: devices wait for each other once, not once for each array.
        flat, restore = ravel_pytree(f(shared, share))
        return restore(jax.lax.pmean(flat, AXIS))

    return jax.shard_map(
        on_each, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=False
    )


def spread(f: Callable[..., PyTree], mesh: Mesh | None, out_axis: int = 0) -> Callable[..., PyTree]:
    """`f` applied to stacked inputs, with one share of them on each device.

    `f` must treat its rows alike and put them on axis `out_axis` of its outputs. If the number of
    devices does not divide the number of inputs, copies of the last row are added and later
    dropped.
    """
    if mesh is None:
        return f

    def spread_f(*stacked: PyTree) -> PyTree:
        n = len(jax.tree.leaves(stacked)[0])
        specs = P(*[None] * out_axis, AXIS)
        run = jax.shard_map(f, mesh=mesh, in_specs=P(AXIS), out_specs=specs, check_vma=False)
        filled = run(*rows_from(stacked, 0, -(-n // mesh.size) * mesh.size))
        return first_rows(filled, n, out_axis)

    return spread_f


def most(number: int) -> int:
    """The largest number that any process of a run gives."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.array(int(number))).max())
