"""A zoo: many trained networks, stacked, with where each comes from."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from wfm.checks import is_float
from wfm.digest import digest
from wfm.weights import Weights, WeightSpec, load_weights, save_weights

SEAL = "digest"  # of all arrays, beside them in the file


class WeightSet(eqx.Module):
    """Snapshots of networks along training trajectories.

    `weights`: arrays with a leading axis over snapshots; `trajectory`, `step`: which trajectory
    and training step each snapshot is from; `metrics`: figures of each snapshot, such as
    `train_loss`, `validation_accuracy`; `initial`: the weights at step 0 of every trajectory,
    stacked by trajectory number.
    """

    weights: Weights
    trajectory: Int[Array, " n"]
    step: Int[Array, " n"]
    metrics: dict[str, Float[Array, " n"]]
    initial: Weights

    def __len__(self) -> int:
        return len(self.trajectory)

    def select(self, rows: Bool[Array, " n"] | Int[Array, " k"]) -> "WeightSet":
        """The snapshots in `rows`. Trajectory numbers, and `initial`, stay as they are."""
        take = lambda a: a[rows]  # noqa: E731
        return WeightSet(
            jax.tree.map(take, self.weights),
            self.trajectory[rows],
            self.step[rows],
            jax.tree.map(take, self.metrics),
            self.initial,
        )

    def at(self, row: int) -> Weights:
        """The weights of one snapshot."""
        return jax.tree.map(lambda a: a[row], self.weights)

    def last(self) -> "WeightSet":
        """The last snapshot of every trajectory."""
        order = np.lexsort((self.step, self.trajectory))
        trajectory = np.asarray(self.trajectory)[order]
        return self.select(jnp.asarray(order[np.append(trajectory[1:] != trajectory[:-1], True)]))

    def initial_of_each(self) -> Weights:
        """The weights that each snapshot was trained from, one row for each snapshot."""
        return jax.tree.map(lambda a: a[self.trajectory], self.initial)

    def split(self, held_out: float, seed: int = 0) -> tuple["WeightSet", "WeightSet"]:
        """Two parts that share no trajectory; the second has the share `held_out` of them."""
        names = np.unique(self.trajectory)
        n_held_out = count_held_out(len(names), held_out)
        chosen = np.random.default_rng(seed).permutation(names)[:n_held_out]
        mask = np.isin(self.trajectory, chosen)
        return self.select(jnp.asarray(~mask)), self.select(jnp.asarray(mask))

    def check(self, spec: WeightSpec) -> None:
        """Raise `ValueError` if empty, of other shapes than `spec`, or with non-finite weights."""
        spec.check(self.weights, batch_dims=1)
        for name, a in self.weights.items():
            if not is_float(a):
                raise ValueError(
                    f"the zoo's {name!r} is {a.dtype}; weights must be floating-point numbers"
                )
        n = len(next(iter(self.weights.values())))
        for name, a in {"trajectory": self.trajectory, "step": self.step, **self.metrics}.items():
            if len(a) != n:
                raise ValueError(f"the zoo has {n} snapshots, but {len(a)} entries of {name!r}")
        if not len(self):
            raise ValueError("the zoo is empty; train at least one network and keep a snapshot")
        finite = jnp.stack(
            [jnp.isfinite(a).reshape(len(a), -1).all(1) for a in self.weights.values()]
        ).all(0)
        if not finite.all():
            bad = np.unique(np.asarray(self.trajectory)[~np.asarray(finite)]).tolist()
            shown = ", ".join(map(str, bad[:10])) + (", …" if len(bad) > 10 else "")
            raise ValueError(
                f"the zoo has NaN or infinite weights in {len(bad)} trajectories ({shown}); "
                "lower the learning rate, or leave them out with `select`"
            )

    def save(self, path: str | Path) -> None:
        """Write to one safetensors file, sealed: `load` refuses what was altered since."""
        arrays: dict[str, Shaped[Array, "..."]] = {
            "trajectory": self.trajectory,
            "step": self.step,
        }
        parts = {"weights": self.weights, "metrics": self.metrics, "initial": self.initial}
        for part, members in parts.items():
            arrays |= {f"{part}/{name}": a for name, a in members.items()}
        save_weights(path, arrays, {SEAL: digest(arrays)})

    @classmethod
    def load(cls, path: str | Path, spec: WeightSpec) -> "WeightSet":
        """Read what `save` wrote, and check it against `spec`."""
        arrays, marks = load_weights(path)
        if SEAL in marks and marks[SEAL] != digest(arrays):
            raise ValueError(
                f"{path} was altered or damaged since its zoo was saved; take another copy, or "
                "delete it and train the networks again"
            )
        arrays = {name: jnp.asarray(a) for name, a in arrays.items()}
        if not {"trajectory", "step"} <= arrays.keys():
            raise ValueError(f"{path} holds weights but no zoo; write it with `WeightSet.save`")

        def part(prefix: str) -> Weights:
            return {
                name.split("/", 1)[1]: a
                for name, a in arrays.items()
                if name.startswith(prefix + "/")
            }

        zoo = cls(
            part("weights"),
            arrays["trajectory"],
            arrays["step"],
            part("metrics"),
            part("initial"),
        )
        zoo.check(spec)
        return zoo


def count_held_out(n: int, share: float) -> int:
    """How many of `n` trajectories the share is; raises `ValueError` if that is none or all."""
    count = round(share * n)
    if not 0 < count < n:
        raise ValueError(
            f"holding out {share:.0%} of {n} trajectories leaves one side empty; "
            "train more networks or change the share"
        )
    return count
