"""Training loops: each call of a compiled scan takes many steps, with data on the device."""

import math
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import SupportsFloat

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, PyTree
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as muon_and_adam

from wfm.batching import batched, map_batched, take_rows
from wfm.checks import all_finite, check_count, non_finite_rows, some
from wfm.devices import mean_over, replicate
from wfm.errors import UserError

WARM_UP = 0.05  # share of the steps in which the learning rate rises

Params = PyTree[Float[Array, "..."]]


class TrainState(eqx.Module):
    """Everything that changes in training; `ema` is the running average of the parameters."""

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt_state: PyTree
    key: Key[Array, ""]


class Diverged(UserError, RuntimeError):
    """A loss or gradient was not finite. `state` is the last good state."""

    def __init__(self, step: int, state: TrainState, remedy: str = "lower the learning rate"):
        super().__init__(
            f"the loss or its gradient became non-finite at step {step}; "
            f"the state of step {int(state.step)} is kept; {remedy}"
        )
        self.step = step
        self.state = state


def check_rows(data: PyTree) -> None:
    """Raise `UserError` unless data are stacked arrays with equally many rows, at least one."""
    leaves = jax.tree.leaves(data)
    lengths = sorted({len(a) if jnp.ndim(a) else 0 for a in leaves})
    if len(lengths) != 1 or lengths[0] < 1:
        raise UserError(
            "data must be stacked arrays of equally many rows, at least one, got "
            f"{', '.join(map(str, lengths)) or 'none'}"
        )


def _with_keys(batch: PyTree, key: Key[Array, ""]) -> PyTree:
    return batch, jax.random.split(key, len(jax.tree.leaves(batch)[0]))


class Trainer(eqx.Module):
    """Minimises the mean of `loss(parameters, example)` over random batches of stacked `data`.

    `examples`: maps a batch and a key to stacked examples; by default `(row, key)` for each row.
    `ema_decay`: the decay of the parameters' average, reached gradually so that early parameters,
    which are still far off, are forgotten. `microbatch`: the largest number of examples whose
    gradient is computed at a time; it changes memory and CPU cache use, but not the gradient. The
    default is a device's whole share. `mesh`: devices that share each batch. `check`: raises
    `UserError`, before the first step, for data that cannot be learned from.

    If `loss` and `examples` are pytrees, their arrays are arguments of the compiled program, which
    trainers that are equal apart from arrays share.
    """

    loss: Callable[[Params, PyTree], Array]
    optimizer: optax.GradientTransformation
    examples: Callable[[PyTree, Array], PyTree] = _with_keys
    batch_size: int = 64
    ema_decay: float = 0.999
    microbatch: int | None = None
    mesh: Mesh | None = eqx.field(static=True, default=None)
    check: Callable[[PyTree], None] = check_rows

    def __check_init__(self):
        check_count("batch_size", self.batch_size)
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        devices = self.mesh.size if self.mesh else 1
        if self.batch_size % devices:
            more = -(-self.batch_size // devices) * devices
            raise UserError(
                f"a batch of {self.batch_size} does not divide among {devices} devices; take "
                f"batch_size {more} or fewer devices"
            )
        if self.microbatch is not None:
            check_count("microbatch", self.microbatch)

    @property
    def _microbatch(self) -> int:
        share = self.batch_size // (self.mesh.size if self.mesh else 1)
        most = min(self.microbatch or share, share)
        return next(n for n in range(most, 0, -1) if share % n == 0)

    def init(self, params: Params, key: Key[Array, ""]) -> TrainState:
        """The state before the first step."""
        opt_state = self.optimizer.init(params)
        return TrainState(jnp.zeros((), jnp.int32), params, params, opt_state, key)

    @eqx.filter_jit
    def advance(
        self, state: TrainState, data: PyTree, n_steps: int
    ) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
        """Take `n_steps` steps in one computation; also return losses and gradient norms."""
        return jax.lax.scan(lambda s, _: self._step(s, data), state, length=n_steps)

    @eqx.filter_jit
    def mean_loss(self, params: Params, data: PyTree, key: Key[Array, ""]) -> Float[Array, ""]:
        """The mean loss of the examples made from all `data`, a microbatch at a time."""
        examples = self.examples(data, key)
        return map_batched(partial(self.loss, params), examples, self._microbatch).mean()

    def _step(self, state: TrainState, data: PyTree) -> tuple[TrainState, dict[str, Array]]:
        key, examples = self._draw(state.key, data)
        loss, gradient = mean_over(self._gradient, self.mesh)(state.params, examples)
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(self.ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        state = TrainState(state.step + 1, params, ema, opt_state, key)
        return state, {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}

    def _draw(self, key: Key[Array, ""], data: PyTree) -> tuple[Key[Array, ""], PyTree]:
        """The key of the next step, and the examples of this step."""
        key, batch_key, loss_key = jax.random.split(key, 3)
        n = len(jax.tree.leaves(data)[0])
        rows = jax.random.randint(batch_key, (self.batch_size,), 0, n)
        batch = take_rows(data, rows)
        return key, self.examples(batch, loss_key)

    def _gradient(self, params: Params, examples: PyTree) -> tuple[Array, Params]:
        """Mean loss of stacked examples, and its gradient."""

        def mean(params: Params, few: PyTree) -> Array:
            return batched(partial(self.loss, params), self._microbatch)(few).mean()

        def add(total: PyTree, few: PyTree) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(mean)(params, few)), None

        def divided(a: Array) -> Array:
            return a.reshape(-1, self._microbatch, *a.shape[1:])

        parts = jax.tree.map(divided, examples)
        n = len(jax.tree.leaves(parts)[0])
        if n == 1:
            return jax.value_and_grad(mean)(params, examples)
        zero = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), params))
        total, _ = jax.lax.scan(add, zero, parts)
        return jax.tree.map(lambda a: a / n, total)

    def fit(
        self,
        state: TrainState,
        data: PyTree,
        steps: int,
        chunk: int = 50,
        report: Callable[[TrainState, dict[str, float]], None] = lambda state, metrics: None,
    ) -> TrainState:
        """Train until step `steps`, calling `report` with mean metrics after every `chunk`.

        Raises `Diverged`, which carries the state at the start of the failing chunk.
        """
        check_count("steps", steps)
        check_count("chunk", chunk)
        self.check(data)
        given = state, data
        state, data = replicate(given, self.mesh)
        while int(state.step) < steps:
            start = int(state.step)
            new, metrics = self.advance(state, data, min(chunk, steps - start))
            host = {name: np.asarray(values) for name, values in metrics.items()}
            finite = np.isfinite(host["loss"]) & np.isfinite(host["gradient_norm"])
            if not finite.all():
                step = start + 1 + int(finite.argmin())
                raise Diverged(step, state, self._remedy(*given, step))
            if not all_finite(new.params):  # after the last step, whose result no loss has seen
                raise Diverged(int(new.step) + 1, state)
            state = new
            report(state, {name: float(values.mean()) for name, values in host.items()})
        return state

    def _remedy(self, state: TrainState, data: PyTree, step: int) -> str:
        """The remedy for a loss that is not finite at `step`, if training began at `state`."""
        if rows := non_finite_rows(data):
            return (
                f"the data are NaN or infinite in {len(rows)} rows ({some(rows)}): leave them out"
            )
        if not all_finite(state.params):
            return f"the parameters at step {int(state.step)} are so already: start from others"
        key = state.key
        for _ in range(int(state.step), step - 1):
            key, _, _ = jax.random.split(key, 3)
        _, examples = self._draw(key, data)
        if non_finite_rows(examples):
            return (
                "the data are finite, but what is made of them for training, such as draws of a "
                "prior, is not: mend what makes it"
            )
        return "lower the learning rate"


def _shared(
    make: Callable[[float, int], optax.GradientTransformation],
) -> Callable[[SupportsFloat, int], optax.GradientTransformation]:
    """`make`, checked, and one result for equal settings: trainers of equal settings are equal."""
    made = lru_cache(make)

    @wraps(make)
    def checked(learning_rate: SupportsFloat, steps: int) -> optax.GradientTransformation:
        check_count("steps", steps, least=0)
        rate = float(learning_rate)
        if not 0 < rate < math.inf:
            raise UserError(f"the learning rate must be positive, got {learning_rate}")
        return made(rate, int(steps))

    return checked


@_shared
def adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam with clipped gradients, a linear warm-up and cosine decay over `steps`."""
    return _clipped(optax.adam(_schedule(learning_rate, steps)))


@_shared
def muon(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Muon (Jordan 2024) for kernels and Nadam for the rest, clipped and scheduled like `adam`.

    Updates are scaled to the size of Adam's (Liu et al. 2025, arXiv 2502.16982, section 2.2), so
    that one learning rate serves both.
    """
    rate = _schedule(learning_rate, steps)
    return _clipped(muon_and_adam(rate, muon_weight_dimension_numbers=_kernels, consistent_rms=0.2))


def _kernels(params: Params) -> PyTree:
    """Which axes of each kernel are matrix axes; earlier axes stack kernels."""

    def axes(path: tuple, array: Array) -> MuonDimensionNumbers | None:
        is_kernel = "kernel" in jax.tree_util.keystr(path)
        return MuonDimensionNumbers(array.ndim - 2, array.ndim - 1) if is_kernel else None

    return jax.tree.map_with_path(axes, params)


def _clipped(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optimizer)


def _schedule(learning_rate: float, steps: int) -> optax.Schedule:
    warm_up = math.ceil(WARM_UP * steps)
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warm_up, max(2, steps))
