"""Training many copies of a network at once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key, PyTree

from wfm.checks import check_count, non_finite_rows, some
from wfm.devices import spread
from wfm.errors import UserError
from wfm.evaluation import evaluate
from wfm.tasks import Split, Task, check_data, mean_loss
from wfm.weights import Weights, WeightSpec, in_working_precision
from wfm.zoo.groups import Train, in_groups, kept_in
from wfm.zoo.weight_set import WeightSet


class Schedule(eqx.Module):
    """How long to train, on which batches, and what to keep.

    After `burn_in` epochs every `stride`-th step is kept. Training ends with the last epoch, or
    with step `stop` if that comes first. With `same_batches` all networks see the examples in the
    same order and differ only in their initial weights. Their first layers are then one large
    product, and no network gathers its own batch.
    """

    epochs: int = 50
    batch_size: int = 32
    burn_in: int = 10
    stride: int = 4
    same_batches: bool = False
    stop: int | None = None

    def __check_init__(self):
        for name in ("epochs", "batch_size", "stride"):
            check_count(name, getattr(self, name))
        if self.stop is not None:
            check_count("stop", self.stop)
        check_count("burn_in", self.burn_in, least=0)
        if not self.burn_in < self.epochs:
            raise UserError(
                f"burn_in must lie in 0 … epochs - 1 = {self.epochs - 1}, got {self.burn_in}"
            )

    def epoch(self, n_examples: int) -> int:
        """Steps in one epoch; a last incomplete batch is dropped."""
        return n_examples // min(self.batch_size, n_examples)

    def steps(self, n_examples: int) -> int:
        """Total number of steps."""
        steps = self.epochs * self.epoch(n_examples)
        return steps if self.stop is None else min(self.stop, steps)

    def snapshots(self, n_examples: int) -> int:
        """How many snapshots are kept of each network; raises `UserError` if none is."""
        after_burn_in = self.steps(n_examples) - self.burn_in * self.epoch(n_examples)
        if after_burn_in < self.stride:
            raise UserError(
                f"no snapshot falls into the {after_burn_in} steps after burn-in; "
                f"lower the stride ({self.stride}) or train longer"
            )
        return after_burn_in // self.stride


class _Learners(eqx.Module):
    """Networks in training, stacked."""

    weights: Weights
    opt_state: PyTree


class _Order(eqx.Module):
    """The order of examples in this epoch: one for all networks, or one per network, stacked."""

    key: Key[Array, "..."]
    rows: Int[Array, "..."]


def train_zoo(
    spec: WeightSpec,
    task: Task,
    initial: Weights,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    schedule: Schedule | None = None,
    *,
    at_once: int | None = None,
    folder: str | Path | None = None,
    mesh: Mesh | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> WeightSet:
    """Train one network from each of the stacked `initial` weights.

    Unless the schedule says otherwise, every network sees its own order of the examples, reshuffled
    each epoch; a last incomplete batch is dropped. Raises `UserError` if labels of `spec` are
    wrong, if a norm has variances that come from data and are not learned, or if a network
    diverged, naming its trajectory.

    `at_once`: the largest number of networks trained in one computation, by default all. Successive
    groups share a compilation. `folder`: keeps each finished group, and the same call does not
    train it again. Groups trained from other weights, keys, data or by another schedule are
    refused. The folder must not serve other networks or optimisers, which are not compared. `mesh`:
    devices that share each group. `report`: called after each group with the number of networks
    finished.
    """
    schedule = schedule or Schedule()
    spec.check(initial, batch_dims=1)
    check_data(spec, task.train)
    if rows := non_finite_rows(initial):
        raise UserError(
            f"the initial weights of networks {some(rows)} are NaN or infinite; start from others"
        )
    initial = in_working_precision(initial)
    n = len(next(iter(initial.values())))
    if n < 1:
        raise UserError("no network to train: the initial weights are empty")
    _check_learned(spec, initial, task.train)
    spec.verify(initial, task.train.x)
    burn_in = schedule.burn_in * schedule.epoch(len(task.train))
    n_snapshots = schedule.snapshots(len(task.train))
    if at_once is not None:
        check_count("at_once", at_once)
    run = partial(_train, spec, optimizer, schedule, n_snapshots)
    train = _compiled(run, task.train, mesh)
    if folder is not None:
        train = kept_in(Path(folder), train, (schedule, task.train))
    keys = jnp.broadcast_to(key, n) if schedule.same_batches else jax.random.split(key, n)
    snapshots = in_groups(train, initial, keys, at_once or n, report)
    weights = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), snapshots)
    metrics = {
        f"{part}_{name}": values
        for part, split in {"train": task.train, "validation": task.validation}.items()
        for name, values in evaluate(spec, weights, split).items()
    }
    kept_steps = burn_in + schedule.stride * jnp.arange(1, n_snapshots + 1)
    zoo = WeightSet(
        weights,
        trajectory=jnp.tile(jnp.arange(n), n_snapshots),
        step=jnp.repeat(kept_steps, n),
        metrics=metrics,
        initial=initial,
    )
    zoo.check(spec)
    return zoo


def _check_learned(spec: WeightSpec, initial: Weights, data: Split) -> None:
    """Raise `UserError` if some weights are variances, which gradients must not change.

    By the labels, slopes of a leaky ReLU look the same, but a root is taken of variances only.
    """
    one, x, y = {name: a[0] for name, a in initial.items()}, data.x[:1], data.y[:1]
    for name in filter(spec.holds_variances, spec.arrays):
        loss = lambda a, name=name: mean_loss(spec, one | {name: a}, x, y)  # noqa: E731
        if jnp.isnan(jax.jit(jax.grad(loss))(-jnp.ones_like(one[name]))).any():
            raise UserError(
                f"{name!r} holds the variances of a norm, which come from data and are not "
                "learned by gradients; train the network without BatchNorm, as by "
                "`batch_norm=False`, or train it elsewhere and load it by `wfm.io`"
            )


def _compiled(run: Callable[..., Weights], data: Split, mesh: Mesh | None) -> Train:
    """`run(initial, keys, data)` for groups of networks, each spread over the devices."""

    @jax.jit
    def on_devices(initial: Weights, keys: Key[Array, " networks"], data: Split) -> Weights:
        return spread(lambda w, k: run(w, k, data), mesh, out_axis=1)(initial, keys)

    return lambda name, initial, keys: on_devices(initial, keys, data)


def _train(
    spec: WeightSpec,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    n_snapshots: int,
    initial: Weights,
    keys: Key[Array, " networks"],
    data: Split,
) -> Weights:
    """Snapshots of all networks: arrays with axes (snapshot, network, …)."""
    step = _step(spec, optimizer, schedule, data)

    def advance(state: tuple[_Learners, _Order, Array], n_steps: int):
        return jax.lax.scan(lambda s, _: (step(s), None), state, length=n_steps)[0]

    def period(state: tuple[_Learners, _Order, Array], _):
        state = advance(state, schedule.stride)
        return state, state[0].weights

    if schedule.same_batches:
        keys = keys[0]
    rows = jnp.zeros((*keys.shape, len(data)), int)  # filled at the first step
    learners = _Learners(initial, jax.vmap(optimizer.init)(initial))
    state = learners, _Order(keys, rows), jnp.zeros((), int)
    state = advance(state, schedule.burn_in * schedule.epoch(len(data)))
    return jax.lax.scan(period, state, length=n_snapshots)[1]


def _step(
    spec: WeightSpec, optimizer: optax.GradientTransformation, schedule: Schedule, data: Split
) -> Callable:
    """One training step of all networks; they share the step count, and so the epochs."""
    epoch, size = schedule.epoch(len(data)), min(schedule.batch_size, len(data))
    loss = partial(mean_loss, spec)

    def reshuffle(order: _Order) -> _Order:
        key, subkey = jax.random.split(order.key)
        return _Order(key, jax.random.permutation(subkey, len(data)))

    def update(learner: _Learners, rows: Array, position: Array) -> _Learners:
        batch = jax.lax.dynamic_slice_in_dim(rows, position * size, size)
        gradient = jax.grad(loss)(learner.weights, data.x[batch], data.y[batch])
        updates, opt_state = optimizer.update(gradient, learner.opt_state, learner.weights)
        return _Learners(jax.tree.map(jnp.add, learner.weights, updates), opt_state)

    shuffle = reshuffle if schedule.same_batches else jax.vmap(reshuffle)
    each = jax.vmap(update, in_axes=(0, None if schedule.same_batches else 0, None))

    def step(state: tuple[_Learners, _Order, Array]) -> tuple[_Learners, _Order, Array]:
        learners, order, count = state
        position = count % epoch
        order = jax.lax.cond(position == 0, shuffle, lambda same: same, order)
        return each(learners, order.rows, position), order, count + 1

    return step
