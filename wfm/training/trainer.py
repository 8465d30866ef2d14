"""Training loops: many steps for each call of a compiled scan, with data on the device."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as muon_and_adam

WARM_UP = 0.05  # share of the steps in which the learning rate rises

Parameters = PyTree[Float[Array, "..."]]


class TrainState(eqx.Module):
    """All that changes in training; `average` is the running average of the parameters."""

    step: Int[Array, ""]
    parameters: Parameters
    average: Parameters
    moments: PyTree
    key: Key[Array, ""]


class Diverged(RuntimeError):
    """A loss or gradient was not finite. `state` is the last good state."""

    def __init__(self, step: int, state: TrainState):
        super().__init__(
            f"the loss or its gradient became non-finite at step {step}; "
            f"the state of step {int(state.step)} is kept; lower the learning rate"
        )
        self.step = step
        self.state = state


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """Minimises `loss(parameters, batch, key)` over random batches of stacked `data`.

    `decay`: of the average of the parameters, reached gradually so that early parameters, which
    are still far off, are forgotten.
    """

    loss: Callable[[Parameters, PyTree, Array], Array]
    optimizer: optax.GradientTransformation
    batch_size: int = 64
    decay: float = 0.999

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")

    def init(self, parameters: Parameters, key: Key[Array, ""]) -> TrainState:
        """The state before the first step."""
        moments = self.optimizer.init(parameters)
        return TrainState(jnp.zeros((), jnp.int32), parameters, parameters, moments, key)

    @partial(jax.jit, static_argnums=(0, 3))
    def advance(
        self, state: TrainState, data: PyTree, n_steps: int
    ) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
        """`n_steps` steps in one computation; also each step's loss and gradient norm."""
        return jax.lax.scan(lambda s, _: self._step(s, data), state, length=n_steps)

    def _step(self, state: TrainState, data: PyTree) -> tuple[TrainState, dict[str, Array]]:
        key, batch_key, loss_key = jax.random.split(state.key, 3)
        n = len(jax.tree.leaves(data)[0])
        rows = jax.random.randint(batch_key, (self.batch_size,), 0, n)
        batch = jax.tree.map(lambda a: a[rows], data)
        loss, gradient = jax.value_and_grad(self.loss)(state.parameters, batch, loss_key)
        change, moments = self.optimizer.update(gradient, state.moments, state.parameters)
        parameters = optax.apply_updates(state.parameters, change)
        decay = jnp.minimum(self.decay, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(parameters, state.average, 1 - decay)
        state = TrainState(state.step + 1, parameters, average, moments, key)
        return state, {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}

    def fit(
        self,
        state: TrainState,
        data: PyTree,
        steps: int,
        chunk: int = 50,
        report: Callable[[TrainState, dict[str, float]], None] = lambda state, metrics: None,
    ) -> TrainState:
        """Train until step `steps`, calling `report` after every `chunk` with mean metrics.

        Raises `Diverged`, which carries the state at the start of the failing chunk.
        """
        if steps < 1 or chunk < 1:
            raise ValueError(f"steps and chunk must be at least 1, got {steps} and {chunk}")
        while int(state.step) < steps:
            start = int(state.step)
            new, metrics = self.advance(state, data, min(chunk, steps - start))
            finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
            if not finite.all():
                raise Diverged(start + 1 + int(finite.argmin()), state)
            state = new
            report(state, {name: float(values.mean()) for name, values in metrics.items()})
        return state


def adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam with clipped gradients, a linear warm-up and cosine decay over `steps`."""
    return _clipped(optax.adam(_schedule(learning_rate, steps)))


def muon(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Muon (Jordan 2024) for kernels and Nadam for all else, clipped and scheduled as `adam` is.

    Updates are scaled to the size of Adam's (Liu et al. 2025, arXiv 2502.16982, section 2.2), so
    that one learning rate serves both.
    """
    rate = _schedule(learning_rate, steps)
    return _clipped(muon_and_adam(rate, muon_weight_dimension_numbers=_kernels, consistent_rms=0.2))


def _kernels(parameters: Parameters) -> PyTree:
    """Which axes of each kernel are multiplied; those before them stack kernels."""

    def axes(path: tuple, array: Array) -> MuonDimensionNumbers | None:
        is_kernel = "kernel" in jax.tree_util.keystr(path)
        return MuonDimensionNumbers(array.ndim - 2, array.ndim - 1) if is_kernel else None

    return jax.tree.map_with_path(axes, parameters)


def _clipped(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optimizer)


def _schedule(learning_rate: float, steps: int) -> optax.Schedule:
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"the learning rate must be positive, got {learning_rate}")
    warm_up = math.ceil(WARM_UP * steps)
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warm_up, max(2, steps))
