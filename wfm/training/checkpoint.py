"""Training states on disk, by orbax."""

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from wfm.digest import digest
from wfm.training.trainer import TrainState


class Checkpoints:
    """The last `keep` states saved in a folder, and the one with the least loss, by step.

    `config`: what the run was made with, saved along; a state of another config is refused. Saving
    goes on in the background, and a state is there either whole or not at all. Of what is read, a
    digest is checked. In a run of several processes, all of them call the same methods.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any] | None = None, keep: int = 2):
        self._folder = Path(folder).absolute()
        self._config = json.loads(json.dumps(config))
        best = BestN(
            get_metric_fn=lambda metrics: metrics["loss"],
            reverse=True,  # the policy keeps what comes last
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            best_fn=best.get_metric_fn,  # without which losses are not stored
            create=True,
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, state: TrainState, loss: float | None = None) -> None:
        """Begin to save; a step saved already stays as it is."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        leaves = _plain(state)
        meta = {"config": self._config, "arrays": _shapes(leaves), "digest": digest(leaves)}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(leaves), meta=ocp.args.JsonSave(meta)
            ),
            metrics=None if loss is None else {"loss": loss},
            force=True,
        )

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest intact state, or nothing if none was saved; `like` gives its structure.

        Damaged ones are named in a warning and set aside, in FOLDER.damaged. Raises `ValueError`
        if all are damaged, and for a state of another structure or config.
        """
        damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self._read(step, like)
            except _Damaged as error:
                damaged.append((step, error))
                continue
            self._set_aside(damaged, step)
            return state
        if damaged:
            raise ValueError(
                f"every checkpoint in {self._folder} is damaged (the newest: {damaged[0][1]}); "
                "restore the folder from a copy, or delete it to start anew"
            )
        return None

    def best(self, like: TrainState) -> TrainState | None:
        """The intact state with the least loss, or nothing if none was saved with one."""
        losses = {step: (self._manager.metrics(step) or {}) for step in self._steps()}
        ranked = sorted((m["loss"], step) for step, m in losses.items() if "loss" in m)
        for _, step in ranked:
            try:
                return self._read(step, like)
            except _Damaged as error:
                warnings.warn(f"{self._folder / str(step)} is damaged: {error}", stacklevel=2)
        return None

    def close(self) -> None:
        """Wait until all is on disk, and release the folder."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _steps(self) -> Iterator[int]:
        self._manager.wait_until_finished()
        yield from self._manager.all_steps()

    def _read(self, step: int, like: TrainState) -> TrainState:
        leaves = _plain(like)
        meta = self._restore(step, "meta", ocp.args.JsonRestore())
        if not isinstance(meta, dict) or meta.keys() < {"config", "arrays", "digest"}:
            raise _Damaged("its description is incomplete")
        self._check(step, meta, leaves)
        # Onto a device of this process, as others, with other devices, may have saved.
        here = SingleDeviceSharding(jax.local_devices()[0])
        target = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here) for a in leaves]
        found = self._restore(step, "state", ocp.args.StandardRestore(target))
        if digest(found) != meta["digest"]:
            raise _Damaged("its contents differ from what was saved")
        restored = [
            jax.random.wrap_key_data(jnp.asarray(a)) if _is_key(b) else jnp.asarray(a)
            for a, b in zip(found, jax.tree.leaves(like), strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(like), restored)

    def _restore(self, step: int, item: str, args: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: args}))[item]
        except Exception as error:  # orbax and tensorstore have no common error for a bad file
            raise _Damaged(str(error).strip().splitlines()[0]) from error

    def _check(self, step: int, meta: dict[str, Any], leaves: list[jax.Array]) -> None:
        folder = self._folder / str(step)
        if meta["config"] != self._config and None not in (meta["config"], self._config):
            raise ValueError(
                f"{folder} was made with another config; use that one, or another folder"
            )
        if meta["arrays"] != _shapes(leaves):
            raise ValueError(
                f"{folder} holds {len(meta['arrays'])} arrays of other shapes or types than the "
                f"{len(leaves)} asked for; use the field and optimizer that it was made with"
            )

    def _set_aside(self, damaged: list[tuple[int, "_Damaged"]], used: int) -> None:
        for step, error in damaged:
            folder = self._folder / str(step)
            aside = self._folder.with_name(f"{self._folder.name}.damaged") / str(step)
            warnings.warn(
                f"{folder} is damaged ({error}): it is set aside, and step {used} used instead",
                stacklevel=3,
            )
            if jax.process_index() == 0:
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                shutil.move(folder, aside)
        if damaged:
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("checkpoints set aside")
            self._manager.reload()


class _Damaged(Exception):
    """A checkpoint cannot be read, or is not what was saved."""


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(state: TrainState) -> list[jax.Array]:
    """Leaves as orbax stores them: it knows neither our classes nor typed keys."""
    return [jax.random.key_data(a) if _is_key(a) else a for a in jax.tree.leaves(state)]


def _shapes(leaves: list[jax.Array]) -> list[list[Any]]:
    return [[list(a.shape), str(a.dtype)] for a in leaves]
