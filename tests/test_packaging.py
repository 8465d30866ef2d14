"""What is installed with wfm: what it imports, no less and no more."""

import ast
import functools
import importlib
import re
import runpy
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import wfm

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = {"wfm", "experiments", "configs"}


def normal(requirement: str) -> str:
    """The name of a requirement as indices compare it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def imported(*folders: str) -> set[str]:
    """The top-level modules that the files of folders import from elsewhere."""
    found = set()
    for path in (p for f in folders for p in (ROOT / f).rglob("*.py*") if p.suffix != ".pyc"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).split(".")[0])
    return found - OWN - set(sys.stdlib_module_names)


def providers(module: str) -> set[str]:
    """The distributions that a module can come from."""
    return {normal(name) for name in distributions().get(module, [module])}


distributions = functools.cache(packages_distributions)  # which reads thousands of files


@pytest.mark.parametrize(
    ("folders", "requirements"),
    [
        (("wfm",), PROJECT["dependencies"]),
        (
            ("wfm", "experiments", "configs"),
            PROJECT["dependencies"] + EXTRAS["experiments"] + EXTRAS["bench"],
        ),
    ],
    ids=["wheel", "checkout"],
)
def test_requirements_are_what_is_imported(folders, requirements):
    required = {normal(r) for r in requirements}
    modules = imported(*folders)
    missing = {m for m in modules if not providers(m) & required}
    assert not missing, "imported, and not required"
    unused = required - set().union(*map(providers, modules))
    assert not unused, "required, and not imported"


def test_everything_that_is_required_is_pinned():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normal(line) for line in pins if line and not line.startswith("#")}
    required = PROJECT["dependencies"] + EXTRAS["experiments"] + EXTRAS["test"]
    assert {normal(r) for r in required} - {"wfm"} <= pinned


def test_the_command_is_installed():
    assert PROJECT["scripts"] == {"wfm": "wfm.command:main"}
    assert callable(importlib.import_module("wfm.command").main)


def test_the_version_and_the_marker_of_types():
    assert wfm.__version__ == PROJECT["version"]
    assert (ROOT / "wfm" / "py.typed").exists()


@pytest.fixture
def standalone():
    """The README as a package index shows it, with links to a place."""
    make = runpy.run_path(str(ROOT / "hatch_build.py"))["standalone"]
    return functools.partial(make, (ROOT / "README.md").read_text())


def test_links_of_the_readme_work_on_a_package_index(standalone):
    links = r"\]\(([^)]+)\)"
    alone = standalone(None)
    assert re.findall(links, alone)
    assert all(link.startswith("https://") for link in re.findall(links, alone))
    assert "![" not in alone and "docs/method.md" in alone
    assert alone.count("|---") == (ROOT / "README.md").read_text().count("|---")
    found = re.findall(links, standalone("https://example.org/blob/main/"))
    assert "https://example.org/blob/main/docs/method.md#sampling" in found
    assert len(found) == len(re.findall(links, (ROOT / "README.md").read_text()))
