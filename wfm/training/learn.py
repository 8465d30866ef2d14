"""Training a field for a flow, in one call."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Key

from wfm.batching import map_batched
from wfm.checks import is_float, non_finite_rows, numbers, some
from wfm.errors import UserError
from wfm.fields import Bound, functional
from wfm.flows import Flow, FlowMatching
from wfm.manifolds import Manifold, Point
from wfm.manifolds.base import Scalar
from wfm.training.trainer import Trainer, check_rows, muon

OFF = 1e-2  # relative distance from a manifold that rounding cannot explain
AT_ONCE = 256


def flow_trainer(
    matching: FlowMatching,
    module: nnx.Module,
    optimizer: optax.GradientTransformation,
    **options: Any,
) -> tuple[Trainer, Callable[[Any], Bound], Any]:
    """A trainer of `module` for the objective, and its `bind` and parameters (`functional`).

    Before training it checks that the data are points that can be learned (`check_points`).
    """
    bind, params = functional(module)
    options = {"check": jax.tree_util.Partial(check_points, matching)} | options
    trainer = Trainer(FieldLoss(matching, bind), optimizer, matching.examples, **options)
    return trainer, bind, params


class FieldLoss(eqx.Module):
    """The loss of one example, as a function of a field's parameters."""

    matching: FlowMatching
    bind: Callable[[Any], Bound]

    def __call__(self, params: Any, example: Any) -> Scalar:
        return self.matching.example_loss(self.bind(params), *example)


def learn(
    matching: FlowMatching,
    module: nnx.Module,
    data: Point,
    key: Key[Array, ""],
    *,
    steps: int = 1000,
    learning_rate: float = 1e-2,
    **options: Any,
) -> tuple[Flow, Float[np.ndarray, " reports"]]:
    """The flow that `module` becomes when trained on stacked `data` points, and its losses.

    Each loss is a mean over 50 steps, the last one over the remaining steps. `options` are those of
    `Trainer`: `batch_size`, `ema_decay`, `microbatch`, `mesh`. Raises `ValueError` for data that
    are not points of the flow.
    """
    optimizer = muon(learning_rate, steps)
    trainer, bind, params = flow_trainer(matching, module, optimizer, **options)
    losses: list[float] = []
    state = trainer.fit(
        trainer.init(params, key),
        data,
        steps,
        report=lambda _, metrics: losses.append(metrics["loss"]),
    )
    return matching.flow(bind(state.ema)), np.array(losses)


def check_points(matching: FlowMatching, data: Any) -> None:
    """Raise `ValueError` unless stacked data are points that a flow can learn.

    After a leading axis for many points, they must have the structure and shape of one point. They
    must be finite, and on the manifold as far as it can tell.
    """
    x0, x1 = matching.coupling.given(data)
    like = jax.eval_shape(matching.prior.sample, jax.random.key(0))
    if x0 is not None:
        _check_stack(matching.space, like, x0, "x₀ of the data")
    _check_stack(matching.target, like, x1, "the data")
    check_rows(data)


def _check_stack(manifold: Manifold, like: Any, points: Any, what: str) -> None:
    _check_shapes(like, points, what)
    check_rows(points)
    if rows := non_finite_rows(points):
        raise UserError(
            f"{what} are NaN or infinite in {len(rows)} rows ({some(rows)}); leave them out"
        )
    try:
        off = numbers(_off(manifold, points))
    except NotImplementedError:
        return
    if off is not None and (rows := np.flatnonzero(~(off <= OFF)).tolist()):
        raise UserError(
            f"{what} are off the manifold in {len(rows)} of {len(off)} rows ({some(rows)}), by up "
            f"to {off.max():.2g} of their size; give points, as `form.encode` or "
            "`manifold.project` make them"
        )


def _check_shapes(like: Any, points: Any, what: str) -> None:
    """Check shapes against those of a draw from the prior."""
    mine, its = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (points, like))
    if mine.keys() != its.keys():
        names = [", ".join(map(_name, part)) or "nothing" for part in (mine, its)]
        raise UserError(
            f"{what} have arrays for {names[0]}, and points of the flow for {names[1]}; encode "
            "weights with the form that the flow's manifold is of"
        )
    if all(jnp.shape(a) == its[path].shape for path, a in mine.items()):
        raise UserError(f"{what} are one point; stack many of them along a new first axis")
    for path, a in mine.items():
        if jnp.ndim(a) < 1 or jnp.shape(a)[1:] != its[path].shape:
            raise UserError(
                f"{what}{jax.tree_util.keystr(path)} have shape {jnp.shape(a)}; stacked points "
                f"have ({', '.join(['n', *map(str, its[path].shape)])})"
            )
        if not is_float(a):
            raise UserError(
                f"{what}{jax.tree_util.keystr(path)} are {a.dtype}; give floating-point numbers"
            )


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path) or "one array"


@eqx.filter_jit
def _off(manifold: Manifold, points: Any) -> Float[Array, " n"]:
    # Projecting in half precision would err by more than rounding the points did.
    single = jax.tree.map(lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float32)), points)
    return map_batched(manifold.off, single, AT_ONCE)
