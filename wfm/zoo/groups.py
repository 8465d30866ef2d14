"""Training networks in groups, each of which is kept on disk once it is finished."""

import dataclasses
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from wfm.weights import Weights, load_weights, save_weights

Learners = tuple[Weights, Key[Array, " n"]]
Snapshots = dict[str, np.ndarray]  # arrays with axes (snapshot, network, …)


@dataclasses.dataclass(frozen=True)
class Groups:
    """Networks to train, `size` at a time, by one compiled `run(initial, keys)`."""

    run: Callable[..., Weights]
    learners: Learners
    size: int

    def train(
        self, folder: str | Path | None, fingerprint: str, report: Callable[[int], None]
    ) -> Snapshots:
        """Snapshots of all networks; groups that `folder` holds already are not trained again."""
        n, parts = len(self.learners[1]), []
        for start in range(0, n, self.size):
            file = Path(folder) / f"{start:06}.safetensors" if folder else None
            part = _load(file, fingerprint) if file else None
            if part is None:
                part = self._train(start, min(start + self.size, n))
                if file:
                    save_weights(file, part, {"fingerprint": fingerprint})
            parts.append(part)
            report(min(start + self.size, n))
        return {name: np.concatenate([p[name] for p in parts], 1) for name in parts[0]}

    def _train(self, start: int, stop: int) -> Snapshots:
        # A last, smaller group is filled up with copies, so that nothing is compiled again.
        rows = jnp.minimum(jnp.arange(start, start + self.size), stop - 1)
        snapshots = self.run(*jax.tree.map(lambda a: a[rows], self.learners))
        return {name: np.asarray(a)[:, : stop - start] for name, a in snapshots.items()}


def _load(file: Path, fingerprint: str) -> Snapshots | None:
    """What a file holds; nothing if it is missing or damaged."""
    if not file.exists():
        return None
    try:
        arrays, metadata = load_weights(file)
    except ValueError:
        warnings.warn(f"{file} is damaged: its networks are trained again", stacklevel=2)
        return None
    if metadata.get("fingerprint") != fingerprint:
        raise ValueError(
            f"{file} holds networks of another zoo; choose another folder or delete {file.parent}"
        )
    return arrays


def fingerprint(*what: PyTree) -> str:
    """SHA-256 of all values in `what`."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(what):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
