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

from wfm.devices import spread
from wfm.evaluation import evaluate
from wfm.tasks import Split, Task, cross_entropy
from wfm.weights import Weights, WeightSpec
from wfm.zoo.groups import Train, in_groups, kept_in
from wfm.zoo.weight_set import WeightSet


class Schedule(eqx.Module):
    """How long to train and what to keep: after `burn_in` epochs every `stride`-th step."""

    epochs: int = 50
    batch_size: int = 32
    burn_in: int = 10
    stride: int = 4

    def __check_init__(self):
        for name in ("epochs", "batch_size", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.burn_in < self.epochs:
            raise ValueError(
                f"burn_in must lie in 0 … epochs - 1 = {self.epochs - 1}, got {self.burn_in}"
            )


class _Learner(eqx.Module):
    """State of one network in training, or of many stacked."""

    weights: Weights
    moments: PyTree
    key: Key[Array, "..."]
    order: Int[Array, "..."]


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

    Every network sees its own order of the examples, reshuffled each epoch (a last incomplete
    batch is dropped). Raises `ValueError` where a network diverged, naming its trajectory.

    `at_once`: the most networks that one computation trains, by default all of them; one after
    another, such groups share a compilation. `folder`: keeps each group as soon as it is finished,
    and the same call does not train again what is there. Groups trained from other weights, keys,
    data or by another schedule are refused; the folder must not serve other networks or
    optimisers, which are not compared. `mesh`: devices that share each group. `report`: called
    with the number of networks finished after each group.
    """
    schedule = schedule or Schedule()
    spec.check(initial, batch_dims=1)
    n = len(next(iter(initial.values())))
    if n < 1:
        raise ValueError("no network to train: the initial weights are empty")
    batch_size = min(schedule.batch_size, len(task.train))
    steps_per_epoch = len(task.train) // batch_size
    burn_in = schedule.burn_in * steps_per_epoch
    n_snapshots = (schedule.epochs * steps_per_epoch - burn_in) // schedule.stride
    if n_snapshots < 1:
        raise ValueError(
            f"no snapshot falls into the {schedule.epochs - schedule.burn_in} epochs after "
            f"burn-in; lower the stride ({schedule.stride}) or train longer"
        )
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once must be at least 1, got {at_once}")
    run = partial(_train, spec, optimizer, batch_size, burn_in, n_snapshots, schedule.stride)
    train = _compiled(run, task.train, mesh)
    if folder is not None:
        train = kept_in(Path(folder), train, (schedule, task.train))
    snapshots = in_groups(train, initial, jax.random.split(key, n), at_once or n, report)
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


def _compiled(run: Callable[..., Weights], data: Split, mesh: Mesh | None) -> Train:
    """`run(initial, keys, data)` for groups of networks, each spread over the devices."""

    @jax.jit
    def on_devices(initial: Weights, keys: Key[Array, " networks"], data: Split) -> Weights:
        return spread(lambda w, k: run(w, k, data), mesh, out_axis=1)(initial, keys)

    return lambda name, initial, keys: on_devices(initial, keys, data)


def _train(
    spec: WeightSpec,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    burn_in: int,
    n_snapshots: int,
    stride: int,
    initial: Weights,
    keys: Key[Array, " networks"],
    data: Split,
) -> Weights:
    """Snapshots of all networks: arrays with axes (snapshot, network, …)."""
    step = _step(spec, optimizer, batch_size, data)

    def advance(state: tuple[_Learner, Array], n_steps: int):
        return jax.lax.scan(lambda s, _: (step(s), None), state, length=n_steps)[0]

    def period(state: tuple[_Learner, Array], _):
        state = advance(state, stride)
        return state, state[0].weights

    rows = jnp.zeros((len(keys), len(data)), int)  # drawn at the first step
    learners = _Learner(initial, jax.vmap(optimizer.init)(initial), keys, rows)
    state = advance((learners, jnp.zeros((), int)), burn_in)
    return jax.lax.scan(period, state, length=n_snapshots)[1]


def _step(
    spec: WeightSpec, optimizer: optax.GradientTransformation, batch_size: int, data: Split
) -> Callable:
    """One training step of all networks; the step count is shared, so that epochs are too."""
    steps_per_epoch = len(data) // batch_size

    def loss(weights: Weights, x: Array, y: Array):
        return cross_entropy(jax.vmap(partial(spec.apply, weights))(x), y)

    def shuffle(learner: _Learner) -> _Learner:
        key, subkey = jax.random.split(learner.key)
        order = jax.random.permutation(subkey, len(data))
        return _Learner(learner.weights, learner.moments, key, order)

    def update(learner: _Learner, position: Array) -> _Learner:
        rows = jax.lax.dynamic_slice_in_dim(learner.order, position * batch_size, batch_size)
        gradient = jax.grad(loss)(learner.weights, data.x[rows], data.y[rows])
        change, moments = optimizer.update(gradient, learner.moments, learner.weights)
        weights = jax.tree.map(jnp.add, learner.weights, change)
        return _Learner(weights, moments, learner.key, learner.order)

    def step(state: tuple[_Learner, Array]) -> tuple[_Learner, Array]:
        learners, count = state
        position = count % steps_per_epoch
        learners = jax.lax.cond(position == 0, jax.vmap(shuffle), lambda same: same, learners)
        return jax.vmap(update, in_axes=(0, None))(learners, position), count + 1

    return step
