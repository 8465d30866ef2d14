"""A zoo: many trained networks, stacked, with the origin of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from wfm.batching import take_rows
from wfm.checks import non_finite_rows, some
from wfm.digest import digest
from wfm.errors import UserError
from wfm.weights import Weights, WeightSpec, in_working_precision, load_weights, save_weights

SEAL = "digest"  # of all arrays, in the same file
Inputs = Float[Array, "m ..."] | Float[np.ndarray, "m ..."]


class WeightSet(eqx.Module):
    """Snapshots of networks along training trajectories.

    `weights`: arrays with a leading axis over snapshots; `trajectory`, `step`: which trajectory
    and training step each snapshot is from; `metrics`: figures of each snapshot, such as
    `train_loss`, `validation_accuracy`; `initial`: the weights at step 0 of every trajectory,
    stacked by trajectory number, or `None` if unknown.
    """

    weights: Weights
    trajectory: Int[Array, " n"]
    step: Int[Array, " n"]
    metrics: dict[str, Float[Array, " n"]]
    initial: Weights | None

    @classmethod
    def of(
        cls,
        weights: Mapping[str, Any],
        spec: WeightSpec | None = None,
        inputs: Inputs | None = None,
        *,
        trajectory: Any = None,
        step: Any = None,
        metrics: Mapping[str, Any] | None = None,
        initial: Mapping[str, Any] | None = None,
    ) -> "WeightSet":
        """A zoo of stacked networks from elsewhere, in working precision.

        By default each network is its own trajectory, at step 0. With a `spec` the weights are
        checked against it; with `inputs`, a few of the task's, its labels are verified.
        """
        arrays = in_working_precision(weights)
        numbers = {"trajectory": trajectory, "step": step}
        numbers |= {f"metric {name!r}": values for name, values in (metrics or {}).items()}
        n = _count(arrays, {name: a for name, a in numbers.items() if a is not None})
        zoo = cls(
            arrays,
            jnp.arange(n) if trajectory is None else jnp.asarray(trajectory, int),
            jnp.zeros(n, int) if step is None else jnp.asarray(step, int),
            {name: jnp.asarray(values, float) for name, values in (metrics or {}).items()},
            None if initial is None else in_working_precision(initial),
        )
        if spec is not None:
            zoo.check(spec)
            if inputs is not None:
                spec.verify(zoo.weights, inputs)
        return zoo

    def __len__(self) -> int:
        return len(self.trajectory)

    def select(self, rows: Bool[Array, " n"] | Int[Array, " k"]) -> "WeightSet":
        """The snapshots in `rows`. Trajectory numbers, and `initial`, stay as they are."""
        if rows.dtype == bool:
            rows = jnp.flatnonzero(rows)
        parts = self.weights, self.trajectory, self.step, self.metrics
        weights, trajectory, step, metrics = take_rows(parts, rows)
        return WeightSet(weights, trajectory, step, metrics, self.initial)

    def at(self, row: int) -> Weights:
        """The weights of one snapshot."""
        return take_rows(self.weights, row)

    def last(self) -> "WeightSet":
        """The last snapshot of every trajectory."""
        order = np.lexsort((self.step, self.trajectory))
        trajectory = np.asarray(self.trajectory)[order]
        return self.select(jnp.asarray(order[np.append(trajectory[1:] != trajectory[:-1], True)]))

    def initial_of_each(self) -> Weights:
        """The weights that each snapshot was trained from, one row per snapshot."""
        if self.initial is None:
            raise UserError(
                "this zoo does not hold the weights that its networks were trained from; give them "
                "as `initial`, or choose what needs none, such as another coupling"
            )
        return take_rows(self.initial, self.trajectory)

    def split(self, held_out: float, seed: int = 0) -> tuple["WeightSet", "WeightSet"]:
        """Two parts that share no trajectory; the second has the share `held_out` of them."""
        names = np.unique(self.trajectory)
        n_held_out = count_held_out(len(names), held_out)
        chosen = np.random.default_rng(seed).permutation(names)[:n_held_out]
        mask = np.isin(self.trajectory, chosen)
        return self.select(jnp.asarray(~mask)), self.select(jnp.asarray(mask))

    def check(self, spec: WeightSpec) -> None:
        """Raise `UserError` if empty, of other shapes than `spec`, or with non-finite weights."""
        spec.check(self.weights, batch_dims=1)
        n = len(next(iter(self.weights.values())))
        for name, a in {"trajectory": self.trajectory, "step": self.step, **self.metrics}.items():
            if len(a) != n:
                raise UserError(f"the zoo has {n} snapshots, but {len(a)} entries of {name!r}")
        if not len(self):
            raise UserError("the zoo is empty; train at least one network and keep a snapshot")
        if self.initial is not None:
            spec.check(self.initial, batch_dims=1)
            known = len(next(iter(self.initial.values())))
            least, most = int(self.trajectory.min()), int(self.trajectory.max())
            if least < 0 or most >= known:
                raise UserError(
                    f"the zoo has trajectories {least} to {most}, and initial weights of {known}; "
                    "number trajectories as the initial weights are stacked, from 0"
                )
        if rows := non_finite_rows(self.weights):
            bad = np.unique(np.asarray(self.trajectory)[np.array(rows)]).tolist()
            raise UserError(
                f"the zoo has NaN or infinite weights in {len(bad)} trajectories ({some(bad)}); "
                "lower the learning rate, or leave them out with `select`"
            )

    def save(self, path: str | Path) -> None:
        """Write one sealed safetensors file; `load` refuses it if it was altered since."""
        arrays: dict[str, Shaped[Array, "..."]] = {"trajectory": self.trajectory, "step": self.step}
        parts = {"weights": self.weights, "metrics": self.metrics, "initial": self.initial or {}}
        for part, members in parts.items():
            arrays |= {f"{part}/{name}": a for name, a in members.items()}
        save_weights(path, arrays, {SEAL: digest(arrays)})

    @classmethod
    def load(cls, path: str | Path, spec: WeightSpec, inputs: Inputs | None = None) -> "WeightSet":
        """Read what `save` wrote, or a file of stacked arrays with the names in `spec`.

        Weights are checked, and labels verified, as in `of`. A zoo altered since it was saved is
        refused.
        """
        try:
            return cls._read(path, spec, inputs)
        except UserError as error:
            if str(path) in str(error):
                raise
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def _read(cls, path: str | Path, spec: WeightSpec, inputs: Inputs | None) -> "WeightSet":
        arrays, marks = load_weights(path)
        if SEAL in marks and marks[SEAL] != digest(arrays):
            raise UserError(
                f"{path} was altered or damaged since its zoo was saved; take another copy, or "
                "delete it and train the networks again"
            )

        def part(prefix: str) -> dict[str, np.ndarray]:
            start = prefix + "/"
            return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}

        if part("weights"):
            missing = {"trajectory", "step"} - arrays.keys()
            if missing:
                raise UserError(
                    f"{path} lacks {sorted(missing)[0]!r} of its networks; write it with "
                    "`WeightSet.save`"
                )
            numbers = {name: arrays[name] for name in ("trajectory", "step")}
            initial = part("initial") or None
            return cls.of(
                part("weights"), spec, inputs, **numbers, metrics=part("metrics"), initial=initial
            )
        if not arrays.keys() & spec.arrays.keys():
            raise UserError(
                f"{path} holds no zoo of this network: its arrays are {_first(arrays)}, and those "
                f"of the network {_first(spec.arrays)}; rename them, or write it with "
                "`WeightSet.save`"
            )
        return cls.of(arrays, spec, inputs)


def _first(names: Mapping[str, Any]) -> str:
    return ", ".join(list(names)[:5]) + (", …" if len(names) > 5 else "")


def _count(weights: Mapping[str, Array], numbers: Mapping[str, Any]) -> int:
    """The number of stacked networks; raises `UserError` if arrays disagree."""
    shapes = {name: np.shape(a) for name, a in (dict(weights) | dict(numbers)).items()}
    bad = [name for name, shape in shapes.items() if not shape]
    if not weights or bad:
        raise UserError(f"stacked networks have a leading axis, and {bad or 'no array'} has none")
    name, (n, *_) = next(iter(shapes.items()))
    for other, shape in shapes.items():
        if shape[0] != n or (other in numbers and len(shape) != 1):
            raise UserError(
                f"{name!r} holds {n} networks, and {other!r} has shape {shape}; "
                "stack all arrays along their first axis"
            )
    return n


def count_held_out(n: int, share: float) -> int:
    """How many of `n` trajectories the share is; raises `UserError` if it is none or all."""
    count = round(share * n)
    if not 0 < count < n:
        raise UserError(
            f"holding out {share:.0%} of {n} trajectories leaves one side empty; "
            "train more networks or change the share"
        )
    return count
