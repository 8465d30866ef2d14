"""Training states on disk, by orbax."""

from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from wfm.training.trainer import TrainState


class Checkpoints:
    """The last `keep` states saved in a folder, by step."""

    def __init__(self, folder: str | Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def save(self, state: TrainState) -> None:
        """Save, and return once the state is safe on disk; a step saved already stays as it is."""
        if int(state.step) in self._manager.all_steps():
            return
        self._manager.save(int(state.step), args=ocp.args.StandardSave(_plain(state)), force=True)
        self._manager.wait_until_finished()

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest state, or nothing if none was saved; `like` gives its structure."""
        step = self._manager.latest_step()
        if step is None:
            return None
        # Onto a device of this process, as others, with other devices, may have saved.
        here = SingleDeviceSharding(jax.local_devices()[0])
        target = [
            jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here)
            for a in jax.eval_shape(_plain, like)
        ]
        plain = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        leaves = [
            jax.random.wrap_key_data(jnp.asarray(a)) if _is_key(b) else a
            for a, b in zip(plain, jax.tree.leaves(like), strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def close(self) -> None:
        """Release the folder."""
        self._manager.close()


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(state: TrainState) -> list[jax.Array]:
    """Leaves as orbax stores them: it knows neither our classes nor typed keys."""
    return [jax.random.key_data(a) if _is_key(a) else a for a in jax.tree.leaves(state)]
