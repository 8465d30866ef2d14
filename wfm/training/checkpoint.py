"""Training states on disk, by orbax: saved while training continues, checked when read."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from orbax.checkpoint import checkpoint_managers as policies

from wfm.atomic import writing
from wfm.checks import check_count
from wfm.devices import most
from wfm.digest import digest
from wfm.errors import UserError
from wfm.jsons import digest_of_json
from wfm.training.trainer import TrainState


class Checkpoints:
    """The last `keep` states saved in a folder, and the state with the lowest loss.

    `config`, anything that JSON can hold, is stored with each state; a state of another config is
    not restored. Only one run at a time can use a folder. If a run has several processes, all of
    them call every method, each with the complete state.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any] | None = None, keep: int = 2):
        check_count("keep", keep)
        self._folder = Path(folder).absolute()
        if self._folder.exists() and not self._folder.is_dir():
            raise UserError(
                f"{self._folder} is a file where the folder of checkpoints belongs; move it away"
            )
        self._config = None if config is None else json.loads(json.dumps(config, default=list))
        self._keep = keep
        self._open()

    def _open(self) -> None:
        best = _Best({})
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(self._keep), best]
            ),
            cleanup_tmp_directories=True,  # left by killed saves
            lightweight_initialize=True,  # also opens folders with damaged files
        )
        with writing(self._folder):
            self._manager = ocp.CheckpointManager(
                self._folder, options=options, item_names=("state", "meta")
            )
        self._losses = best.losses
        self._losses |= {step: self._loss(step) for step in self._manager.all_steps()}

    def save(self, state: TrainState, loss: float | None = None) -> None:
        """Save while training continues; a step that is already saved stays as it is.

        The next `save`, `wait` or `close` returns once the state is safe on disk, and raises any
        error of saving. A state is saved completely or not at all, whenever the process is killed.
        A `loss` that is not finite counts as none.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        leaves = _plain(state)
        about = {
            "config": self._config,
            "loss": loss if loss is not None and math.isfinite(loss) else None,
            "arrays": _arrays(state),
            "digest": digest(leaves),
        }
        self._losses[step] = about["loss"]
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(leaves),
            meta=ocp.args.JsonSave({"about": about, "digest": digest_of_json(about)}),
        )
        with writing(self._folder):
            self._manager.save(step, args=items, force=True)

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest intact state, or `None` if none was saved; `like` gives its structure.

        A damaged state raises a warning, is moved aside, and the state before it is used. Raises
        `UserError` if all states are damaged, or if the newest has another structure or config.
        """
        self.wait()
        return self._first_intact(sorted(self._manager.all_steps(), reverse=True), like)

    def best(self, like: TrainState) -> TrainState | None:
        """As `restore`, but the kept state with the lowest loss, if any has a loss."""
        self.wait()
        losses = {s: loss for s, loss in self._losses.items() if loss is not None}
        kept = [step for step in self._manager.all_steps() if step in losses]
        return self._first_intact(sorted(kept, key=lambda s: (losses[s], -s)), like)

    def wait(self) -> None:
        """Return once the last state saved is safe on disk."""
        with writing(self._folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the last save and release the folder."""
        with writing(self._folder):
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first_intact(self, steps: Sequence[int], like: TrainState) -> TrainState | None:
        damaged: list[int] = []
        for step in steps:
            leaves = self._read(step, like)
            if most(leaves is None):
                damaged.append(step)
                continue
            assert leaves is not None
            if damaged:
                self._set_aside(damaged, step)
            return _typed(leaves, like)
        if damaged:
            raise UserError(
                f"no state in {self._folder} is intact (damaged: steps "
                f"{', '.join(map(str, damaged))}); delete the folder to start anew"
            )
        return None

    def _read(self, step: int, like: TrainState) -> list[np.ndarray] | None:
        """The leaves of a state, or `None` if its files are damaged."""
        # Missing or altered files can fail anywhere inside orbax, with any exception.
        try:
            about = self._about(step)
        except Exception:
            return None
        self._check(about, like)
        target = ocp.args.StandardRestore(_plain(like))
        try:
            leaves = self._manager.restore(step, args=ocp.args.Composite(state=target))["state"]
        except Exception:
            return None
        return leaves if digest(leaves) == about["digest"] else None

    def _about(self, step: int) -> dict[str, Any]:
        """What was stored with a state; raises if it is damaged."""
        items = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = self._manager.restore(step, args=items)["meta"]
        if meta["digest"] != digest_of_json(meta["about"]):
            raise UserError(f"what is stored with step {step} was altered")
        return meta["about"]

    def _loss(self, step: int) -> float | None:
        try:
            return self._about(step)["loss"]
        except Exception:
            return -math.inf  # so that `best` tries it first, and warns

    def _check(self, about: dict[str, Any], like: TrainState) -> None:
        if self._config is not None and about["config"] is not None:
            here, there = _flat(self._config), _flat(about["config"])
            if different := _differences(there, here):
                raise UserError(
                    f"{self._folder} holds a state of another config (different: "
                    f"{', '.join(different)}); choose another folder, or delete it to start anew"
                )
        arrays = _arrays(like)
        if about["arrays"] != arrays:
            name = next(iter(_differences(about["arrays"], arrays)))
            there, here = (a.get(name, "absent") for a in (about["arrays"], arrays))
            raise UserError(
                f"{self._folder} holds a state of other arrays ({name} is {there} there and {here} "
                "here); restore it with the field and optimiser it was saved from, or delete the "
                "folder to start anew"
            )

    def _set_aside(self, damaged: Sequence[int], used: int) -> None:
        """Move damaged states out of the folder, so that their steps can be saved again."""
        self._manager.close()
        aside = self._folder.with_name(self._folder.name + ".damaged")
        for step in damaged:
            warnings.warn(
                f"{self._folder / str(step)} is damaged; the state of step {used} is used instead "
                f"and the damaged one moved to {aside}",
                stacklevel=4,
            )
            if jax.process_index() == 0:
                aside.mkdir(exist_ok=True)
                names = (f"{step}.{n}" if n else str(step) for n in range(10**6))
                free = next(aside / name for name in names if not (aside / name).exists())
                (self._folder / str(step)).rename(free)
        multihost_utils.sync_global_devices("damaged states moved")
        self._open()


class _Best(policies.PreservationPolicy):
    """Keeps the state with the lowest loss.

    orbax's own `BestN` reads a file of each state when the folder is opened, and fails if one is
    damaged.
    """

    def __init__(self, losses: dict[int, float | None]):
        self.losses = losses

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        known = {c.step: self.losses.get(c.step) for c in checkpoints}
        finite = {s: x for s, x in known.items() if x is not None and math.isfinite(x)}
        best = min(finite, key=lambda s: (finite[s], -s), default=None)
        return [c.step == best for c in checkpoints]


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(state: TrainState) -> list[np.ndarray]:
    """Copies of the leaves for orbax, which knows neither our classes nor typed keys."""
    return [np.asarray(jax.random.key_data(a) if _is_key(a) else a) for a in jax.tree.leaves(state)]


def _typed(leaves: Sequence[np.ndarray], like: TrainState) -> TrainState:
    """The state with these plain leaves, on this process's first device."""
    typed = [
        jax.random.wrap_key_data(jnp.asarray(a), impl=jax.random.key_impl(b))
        if _is_key(b)
        else jnp.asarray(a)
        for a, b in zip(leaves, jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), typed)


def _arrays(tree: PyTree) -> dict[str, str]:
    """What each array is, by its place in the tree."""
    return {
        jax.tree_util.keystr(path): f"{a.dtype}{list(a.shape)}"
        for path, a in jax.tree_util.tree_leaves_with_path(tree)
    }


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping)
        values |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return values


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    absent = object()
    names = {**first, **other}  # in order
    return [name for name in names if first.get(name, absent) != other.get(name, absent)]
