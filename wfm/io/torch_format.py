"""Files of PyTorch, zip and legacy: arrays only, whatever else the pickle in them asks for."""

import importlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError
from wfm.io.nested import listed

SAFE = (2, 6)
USUAL = ("state_dict", "model", "model_state_dict")
VIEWS = {1: "uint8", 2: "int16"}  # integers of the width of floats that NumPy does not know
ZIP_DIRECTORY = 2**20  # more than tensors may claim beyond what the file holds


def torch() -> Any:
    """The module, if it is installed."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise UserError(
            "it is a file of PyTorch, and torch is not installed; `pip install 'wfm[io]'`"
        ) from None


def read(path: Path) -> Any:
    """What `torch.save` saved, with arrays of NumPy for tensors."""
    library = torch()
    if tuple(map(int, library.__version__.split(".")[:2])) < SAFE:
        raise UserError(
            f"torch {library.__version__} can run code of a file even with `weights_only` "
            "(CVE-2025-32434); install 2.6 or newer"
        )
    try:
        with warnings.catch_warnings():  # of how else it could be read
            warnings.simplefilter("ignore")
            found = library.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any class, if the file is damaged
        raise _refusal(error) from None
    return _in_numpy(found, library, path.stat().st_size + ZIP_DIRECTORY)


def _refusal(error: Exception) -> UserError:
    text = str(error)
    if "TorchScript" in text:
        return UserError("it is a TorchScript archive, which holds code; save `model.state_dict()`")
    if named := re.search(
        r"GLOBAL ([\w.]+)|class(?:es)? ([\w.]+)|import of module `([\w.]+)`", text
    ):
        name = next(filter(None, named.groups()))
        return UserError(
            f"it holds Python objects ({name}), and reading those can run code; where you trust "
            "it, load it and save `model.state_dict()`"
        )
    if "Unsupported operand" in text or "weights_only" in text.lower():
        return UserError(
            "it is a pickle of more than arrays, and reading it can run code; save "
            "`model.state_dict()` instead"
        )
    return UserError("it is damaged, or incomplete: torch cannot read it; get it again")


def network_of(found: Any) -> Any:
    """The one `state_dict` of a checkpoint, with the numbers beside it; else what was given."""
    states = [key for key, value in found.items() if _is_state(value)] if _is_map(found) else []
    usual = [key for key in USUAL if key in states]
    if usual and len(states) > 1:
        raise UserError(f"it holds several networks, {listed(states)}; say which, by `key`")
    if not usual:
        return found
    beside = {k: v for k, v in found.items() if isinstance(v, int | float | str)}
    return beside | found[usual[0]]


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_state(value: Any) -> bool:
    values = value.values() if _is_map(value) else []
    return any(isinstance(a, np.ndarray) for a in values) and not any(map(_is_map, values))


def _in_numpy(node: Any, library: Any, room: int) -> Any:
    """The same containers, with NumPy's arrays. Tensors may repeat what the file holds once."""
    if isinstance(node, Mapping):
        return {key: _in_numpy(value, library, room) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_in_numpy(value, library, room) for value in node]
    return _array(node, library, room) if isinstance(node, library.Tensor) else node


def _array(tensor: Any, library: Any, room: int) -> np.ndarray:
    if tensor.layout != library.strided or tensor.is_quantized or tensor.is_meta:
        raise UserError(
            f"it holds a tensor that is not dense ({tensor.dtype}, {tensor.layout}); save "
            "dense ones"
        )
    if tensor.numel() * tensor.element_size() > room:
        raise UserError("it claims more entries than it holds; get it again")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    if name != "bfloat16" and not name.startswith("float8"):
        return tensor.numpy()
    as_integers = getattr(library, VIEWS[tensor.element_size()])
    return tensor.contiguous().view(as_integers).numpy().view(np.dtype(getattr(jnp, name)))


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A `state_dict`, which `load_state_dict(torch.load(path))` takes."""
    library = torch()
    library.save({name: _tensor(a, library) for name, a in arrays.items()}, path)


def _tensor(array: np.ndarray, library: Any) -> Any:
    name = array.dtype.name
    array = np.array(array, order="C")  # a copy that torch may write to
    if name != "bfloat16" and not name.startswith("float8"):
        return library.from_numpy(array)
    as_integers = array.view(VIEWS[array.dtype.itemsize])
    return library.from_numpy(as_integers).view(getattr(library, name))
