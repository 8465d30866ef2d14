"""The public names of wfm: each has a docstring, is ours, and stays unless someone decides.

`tests/public_names.txt` lists them, so that a name that comes or goes shows in a diff.
`python -m tests.test_api` writes it.
"""

import ast
import importlib
import inspect
import pkgutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wfm

WFM = Path(wfm.__file__).parent
LIST = Path(__file__).with_name("public_names.txt")
MODULES = [f"wfm.{module.name}" for module in pkgutil.iter_modules(wfm.__path__)]
# For wfm alone: it writes and reads classes of wfm only. A program: its options are public.
INTERNAL = {"wfm.artefacts", "wfm.command"}
PACKAGES = {
    name: importlib.import_module(name)
    for name in MODULES
    if name not in INTERNAL and hasattr(importlib.import_module(name), "__all__")
}
FOREIGN = {"Rngs"}  # flax's, so that a first script needs no import of it
PUBLIC = {
    f"{package}.{name}": getattr(module, name)
    for package, module in {"wfm": wfm, **PACKAGES}.items()
    for name in module.__all__
    if name not in FOREIGN | {"__version__"}
}


def members(value: Any) -> Iterator[str]:
    """Public methods, properties and fields that a class of wfm itself has."""
    if inspect.isclass(value) and value.__module__.startswith("wfm."):
        own = dict.fromkeys([*vars(value), *inspect.get_annotations(value)])
        yield from (name for name in own if not name.startswith("_"))


def names() -> list[str]:
    """All public names, in the order of their letters."""
    of_wfm = [f"wfm.{name}" for name in wfm.__all__]
    inner = [
        f"{place}.{member}"
        for place, value in PUBLIC.items()
        if place.count(".") > 1  # a class is listed with its members in its package
        for member in members(value)
    ]
    return sorted({*PUBLIC, *of_wfm, *inner})


def test_a_name_that_comes_or_goes_is_a_decision():
    listed = LIST.read_text().splitlines()
    gone, new = sorted(set(listed) - set(names())), sorted(set(names()) - set(listed))
    assert not gone, "these break users' code: CONTRIBUTING.md, Releases, says how names go"
    assert not new, "list them by `python -m tests.test_api` if they are to stay"


def test_packages_that_are_named_by_wfm_say_what_is_public():
    named = {place for place, value in PUBLIC.items() if isinstance(value, types.ModuleType)}
    assert named == PACKAGES.keys()


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
def test_names_of_a_package_are_sorted_and_public(package):
    assert sorted(set(package.__all__)) == sorted(package.__all__)
    assert not [name for name in package.__all__ if name.startswith("_")]


def test_names_of_wfm_are_public_where_they_come_from():
    for name, (module, there) in wfm._ORIGINS.items():
        origin = PACKAGES.get(module)
        assert origin is None or there in origin.__all__, name


def constants() -> dict[str, str | None]:
    """What modules of wfm assign, with the string that follows it, its docstring."""
    found: dict[str, str | None] = {}
    for path in WFM.rglob("*.py"):
        body = ast.parse(path.read_text()).body
        for node, after in zip(body, [*body[1:], None], strict=True):
            targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(targets[0], ast.Name):
                value = getattr(after, "value", None) if isinstance(after, ast.Expr) else None
                found.setdefault(targets[0].id, getattr(value, "value", None))
    return found


CONSTANTS = constants()


@pytest.mark.parametrize("place", PUBLIC)
def test_what_is_public_is_ours_and_says_what_it_is(place):
    value = inspect.unwrap(PUBLIC[place])  # of `jit`
    name = place.rpartition(".")[2]
    if name in CONSTANTS:
        assert CONSTANTS[name], "a docstring is to follow the assignment"
        return
    home = value.__name__ if inspect.ismodule(value) else value.__module__
    assert home.startswith("wfm."), "of another library"
    assert value.__doc__
    for member in set(members(value)) - inspect.get_annotations(value).keys():
        said = (getattr(vars(cls).get(member), "__doc__", None) for cls in value.__mro__)
        assert any(said), member


if __name__ == "__main__":
    LIST.write_text("\n".join(names()) + "\n")
