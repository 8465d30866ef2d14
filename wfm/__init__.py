"""Weight flow matching: generative models of neural-network weights.

The names that a first script needs; the packages below hold the rest. `__init__.pyi` says where
each name comes from. A name is imported when it is first used (PEP 562, SPEC 1), because importing
JAX and the libraries around it takes seconds.
"""

import ast
import importlib
from pathlib import Path
from typing import Any


def _origins() -> dict[str, tuple[str, str]]:
    """The module of each public name and its name there, read from the stub beside this file."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text())
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


_ORIGINS = _origins()
__all__ = [*_ORIGINS, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from wfm.versions import version_of

        value = version_of(__name__)
    elif name in _ORIGINS:
        module, there = _ORIGINS[name]
        own = module == __name__  # a package below this one
        value = importlib.import_module(f"{module}.{there}" if own else module)
        value = value if own else getattr(value, there)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
