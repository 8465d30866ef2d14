"""Floors of the code: imports go down or stay on their floor, never up."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wfm

ROOT = Path(__file__).parent.parent
FLOORS = {
    "wfm.artefacts": 1,
    "wfm.atomic": 1,
    "wfm.batching": 1,
    "wfm.checks": 1,
    "wfm.compilation": 1,
    "wfm.devices": 1,
    "wfm.digest": 1,
    "wfm.downloads": 1,
    "wfm.draws": 1,
    "wfm.errors": 1,
    "wfm.jsons": 1,
    "wfm.versions": 1,
    "wfm.manifolds": 1,
    "wfm.ot": 1,
    "wfm.priors": 2,
    "wfm.weights": 2,
    "wfm.tasks": 2,
    "wfm.flows": 3,
    "wfm.fields": 3,
    "wfm.zoo": 4,
    "wfm.training": 4,
    "wfm.evaluation": 4,
    "wfm.io": 5,
    "wfm": 5,  # wfm/__init__.pyi, which collects the public names
    "wfm.command": 6,  # the program of this name; experiments read networks as it does
    "experiments": 6,
    "configs": 6,
}
STRANGERS = {("wfm.flows", "wfm.weights")}  # flows know nothing of weights
TOP = ("wfm", "experiments", "configs")
FILES = sorted(p.relative_to(ROOT) for d in TOP for p in (ROOT / d).rglob("*.py"))


def package(module: str) -> str:
    """The part of the code that has a floor: `wfm.flows` of `wfm.flows.paths`."""
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "wfm" else 1])


def imports(path: Path, source: str) -> set[str]:
    """The packages of this repository that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(path.parts[: -node.level]) if node.level else ""
            module = ".".join(filter(None, [origin, node.module]))
            # `from wfm import flows` imports the package wfm.flows, `from wfm import Flow` all
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if package(name) in FLOORS else module for name in names}
    return {
        package(name) for name in found if name.split(".")[0] in ("wfm", "experiments", "configs")
    }


def offences(path: Path, source: str) -> list[str]:
    here = package(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    if here not in FLOORS:
        return [f"{path}: name the floor of {here} in {Path(__file__).name}"]
    return [
        f"{path}: {here} must not import {there}"
        for there in sorted(imports(path, source))
        if FLOORS.get(there, 99) > FLOORS[here] or (here, there) in STRANGERS
    ]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path):
    assert offences(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("wfm/manifolds/sphere.py", "import wfm.weights.spec"),
        ("wfm/manifolds/sphere.py", "from ..flows import Flow"),
        ("wfm/manifolds/sphere.py", "import wfm"),
        ("wfm/flows/path.py", "from wfm import weights"),
        ("wfm/flows/path.py", "from wfm import Zoo, manifolds"),
        ("wfm/flows/path.py", "def f():\n    from wfm.weights import mlp"),
        ("wfm/fields/graph.py", "from wfm.training.step import step"),
        ("wfm/zoo/train.py", "from experiments import uci"),
        ("wfm/__init__.py", "import experiments.uci"),
        ("wfm/unknown/new.py", ""),
    ],
)
def test_an_upward_import_is_found(path, source):
    assert len(offences(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("wfm/flows/path.py", "import jax\nfrom wfm.manifolds.base import Point"),
        ("wfm/flows/__init__.py", "from .path import Straight\nfrom wfm import fields, manifolds"),
        ("wfm/zoo/train.py", "from wfm.evaluation import accuracy"),
        ("wfm/__init__.py", "from wfm.training import train"),
        ("experiments/uci.py", "import wfm\nfrom experiments.report import write"),
    ],
)
def test_other_imports_are_allowed(path, source):
    assert offences(Path(path), source) == []


def test_the_floors_are_those_of_the_layout_and_of_contributing():
    rows = re.findall(r"^\| (\d) \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    told = {name: int(floor) for floor, names in rows for name in re.findall("`(.*?)`", names)}
    assert told == FLOORS
    there = {package(".".join(path.with_suffix("").parts)) for path in FILES}
    assert there - {"wfm.__init__"} == FLOORS.keys() - {"wfm"}


HEAVY = ("experiments", "matplotlib", "orbax", "scipy", "sklearn", "torch")


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import wfm; dir(wfm)", ("jax", "flax", "diffrax", *HEAVY)),
        ("from wfm import *", HEAVY),
    ],
)
def test_importing_wfm_stays_light(code, heavy):
    code = f"{code}\nimport sys; print({set(heavy)} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


@pytest.mark.parametrize("name", wfm.__all__)
def test_public_names_are_there(name):
    namespace: dict = {}
    exec(f"from wfm import {name}", namespace)
    assert namespace[name] is getattr(wfm, name)
    assert name in dir(wfm)


def test_a_name_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="module 'wfm' has no attribute 'flow'"):
        _ = wfm.flow
    with pytest.raises(AttributeError, match=r"module 'wfm.training' has no attribute 'fit'"):
        _ = wfm.training.fit
