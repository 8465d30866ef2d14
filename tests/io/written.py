"""Files as the libraries write them to which the formats belong."""

import importlib.util

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization
from safetensors.numpy import save_file

from wfm.io.nested import nest


def there(module: str) -> bool:
    """Whether an optional library is installed."""
    return importlib.util.find_spec(module) is not None


def by_torch(path, arrays, legacy=False):
    import torch

    def tensor(a):
        wide = torch.from_numpy(np.array(a, np.float64))
        return wide.to(getattr(torch, np.asarray(a).dtype.name))

    state = {name: tensor(a) for name, a in arrays.items()}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)


def by_torch_once(path, arrays):
    by_torch(path, arrays, legacy=True)


def by_safetensors_of_torch(path, arrays):
    import torch
    from safetensors.torch import save_file

    save_file(
        {n: torch.from_numpy(np.asarray(a, "f8")).to(_of(torch, a)) for n, a in arrays.items()},
        path,
    )


def _of(torch, a):
    return getattr(torch, np.asarray(a).dtype.name)


def by_safetensors(path, arrays):
    save_file(dict(arrays), path, {"task": "iris"})


def by_numpy(path, arrays):
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def by_h5py(path, arrays):
    import h5py

    with h5py.File(path, "w") as file:
        for name, a in arrays.items():
            file[name.replace(".", "/")] = a


def by_flax(path, arrays):
    path.write_bytes(serialization.to_bytes(nest(arrays)))


def by_orbax(path, arrays):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), nest({n: jnp.asarray(a) for n, a in arrays.items()}))


def by_equinox(path, arrays):
    with open(path, "wb") as file:  # to a path it adds a suffix
        eqx.tree_serialise_leaves(file, list(arrays.values()))


TORCH = {
    "torch": by_torch,
    "legacy torch": by_torch_once,
    "torch's safetensors": by_safetensors_of_torch,
}
WRITTEN = {
    **(TORCH if there("torch") else {}),
    **({"hdf5": by_h5py} if there("h5py") else {}),
    "safetensors": by_safetensors,
    "npz": by_numpy,
    "msgpack": by_flax,
    "orbax": by_orbax,
    "equinox": by_equinox,
}
