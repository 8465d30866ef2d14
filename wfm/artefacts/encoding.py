"""Objects as JSON and arrays, and back.

Numbers, strings and None stay as they are. Anything else becomes an object whose one key says
what it is: `{"tuple": [...]}`, `{"array": name}`, `{"wfm.manifolds.Sphere": {"shape": ...}}`.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from functools import singledispatchmethod
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from wfm.errors import UserError

Arrays = dict[str, np.ndarray]


@runtime_checkable
class Described(Protocol):
    """An object that describes what it is made from; other objects are described by their fields.

    It raises `ValueError` if it cannot be saved. To rebuild it, its class, or its class method
    `made_from` if it has one, is called with the parts by name.
    """

    def describe(self) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes that may be written and read: public ones of the named `packages`.

    Only equinox modules and classes that are `Described` count. No other name is looked up, and
    only constructors are called.
    """

    packages: tuple[str, ...]

    def name(self, cls: type) -> str | None:
        """The public name of a class, if it has one here."""
        names = (f"{package}.{cls.__name__}" for package in self.packages)
        return next((name for name in names if self.find(name) is cls), None)

    def find(self, name: str) -> type | None:
        """The class of a public name."""
        package, _, short = name.rpartition(".")
        if package not in self.packages:
            return None
        module = importlib.import_module(package)
        found = getattr(module, short) if short in module.__all__ else None
        known = isinstance(found, type) and issubclass(found, eqx.Module | Described)
        return found if known else None


def encode(value: Any, where: str, classes: Classes) -> tuple[Any, Arrays]:
    """The JSON of `value`, and the arrays in it by their place under `where`."""
    encoder = _Encoder(classes)
    return encoder.encode(value, where), encoder.arrays


class _Encoder:
    """Collects the arrays of an object while it encodes it."""

    def __init__(self, classes: Classes):
        self.classes = classes
        self.arrays: Arrays = {}

    @singledispatchmethod
    def encode(self, value: Any, where: str) -> Any:
        parts = _parts(value, where)
        name = self.classes.name(type(value))
        if parts is None or name is None:
            raise UserError(
                f"{where} cannot be saved: {type(value).__name__} is no public class of "
                f"{', '.join(self.classes.packages)}"
            )
        return {name: {part: self.encode(v, f"{where}.{part}") for part, v in parts.items()}}

    @encode.register
    def _(self, value: bool | int | float | str | None, where: str) -> Any:
        return value

    @encode.register
    def _(self, value: jax.Array | np.ndarray | np.generic, where: str) -> Any:
        if jnp.issubdtype(value.dtype, jax.dtypes.extended):
            raise UserError(f"{where} cannot be saved: it holds {value.dtype}, not numbers")
        self.arrays[where] = np.asarray(value, order="C")
        return {"array": where}

    @encode.register
    def _(self, value: jax.ShapeDtypeStruct, where: str) -> Any:
        return {"shape": [list(value.shape), value.dtype.name]}

    @encode.register
    def _(self, value: tuple, where: str) -> Any:
        return {"tuple": self.encode(list(value), where)}

    @encode.register
    def _(self, value: list, where: str) -> Any:
        return [self.encode(v, f"{where}.{i}") for i, v in enumerate(value)]

    @encode.register
    def _(self, value: Mapping, where: str) -> Any:
        if not all(isinstance(key, str) for key in value):
            raise UserError(f"{where} cannot be saved: its keys are not all strings")
        return {"dict": {key: self.encode(v, f"{where}.{key}") for key, v in value.items()}}


def _parts(value: Any, where: str) -> Mapping[str, Any] | None:
    """What `value` is made from, if it says so."""
    if isinstance(value, Described):
        try:
            return value.describe()
        except ValueError as error:
            raise UserError(f"{where} cannot be saved: {error}") from None
    if not isinstance(value, eqx.Module):
        return None
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def decode(value: Any, arrays: Mapping[str, np.ndarray], classes: Classes) -> Any:
    """The inverse of `encode`. Raises `ValueError` for unknown classes."""
    if isinstance(value, list):
        return [decode(v, arrays, classes) for v in value]
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    kinds: dict[str, Callable[[], Any]] = {
        "array": lambda: arrays[content],
        "shape": lambda: jax.ShapeDtypeStruct(tuple(content[0]), np.dtype(content[1])),
        "tuple": lambda: tuple(decode(content, arrays, classes)),
        "dict": lambda: {key: decode(v, arrays, classes) for key, v in content.items()},
    }
    return kinds[name]() if name in kinds else _made(name, content, arrays, classes)


def _made(name: str, content: Any, arrays: Mapping[str, np.ndarray], classes: Classes) -> Any:
    cls = classes.find(name)
    if cls is None:
        raise UserError(f"there is no class {name} in this version of wfm; install the one needed")
    parts = {part: decode(v, arrays, classes) for part, v in content.items()}
    return getattr(cls, "made_from", cls)(**parts)
