"""The site, as far as it can be checked without building it: `make docs` does the rest."""

import ast
import base64
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# From outside docs/: docs/hooks.py makes pages of them.
MADE = {"changelog.md", "contributing.md"} | {f"examples/{p.stem}.md" for p in NOTEBOOKS}
PICTURE = 60_000  # bytes


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags are not needed here."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
CONFIG = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)


def pages(nav) -> list[str]:
    """All files that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages(part)]


def test_the_navigation_has_every_page_and_no_other():
    there = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    named = pages(CONFIG["nav"])
    assert len(named) == len(set(named))
    assert set(named) == there | MADE


def test_the_configuration_names_files_that_exist():
    named = [*CONFIG["hooks"], *CONFIG["watch"], CONFIG["docs_dir"]]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_nothing_is_fetched():
    assert CONFIG["theme"]["font"] is False
    assert not CONFIG.get("extra_javascript") and not CONFIG.get("extra_css")


def test_broken_links_stop_the_build():
    assert CONFIG["strict"] is True
    links = CONFIG["validation"]["links"]
    assert {links[kind] for kind in ("not_found", "anchors", "absolute_links")} == {"warn"}


def test_every_package_has_its_page():
    packages = {p.parent.name for p in (ROOT / "wfm").glob("*/__init__.py")} - {
        "artefacts",
        "command",
    }
    for name in packages:
        assert f"::: wfm.{name}\n" in (ROOT / "docs" / "api" / f"{name}.md").read_text()
    assert {p.stem for p in (ROOT / "docs" / "api").glob("*.md")} == packages | {
        "wfm",
        "devices",
        "priors",
    }


def public(module: str) -> list[str]:
    return importlib.import_module(module).__all__


def code(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_use_public_names_only(path):
    """What they import from `wfm`, and every `wfm.…` in them, is in an `__all__`."""
    trees = [ast.parse(cell) for cell in code(path)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = [
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "wfm"
        for alias in node.names
    ]
    used += [
        ("wfm", node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "wfm"
    ]
    assert used
    assert [(module, name) for module, name in used if name not in public(module)] == []
    plain = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    assert all(name == "wfm" or not name.startswith("wfm.") for name in plain)
    private = [n.attr for n in nodes if isinstance(n, ast.Attribute) and re.match("_[^_]", n.attr)]
    assert private == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_executed_and_easy_to_review(path):
    notebook = json.loads(path.read_text())
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert all(not c["metadata"] for c in notebook["cells"])  # no times of execution
    outputs = [output for c in cells for output in c["outputs"]]
    assert all(o["output_type"] != "error" for o in outputs)
    pictures = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert pictures
    assert max(len(base64.b64decode(picture)) for picture in pictures) < PICTURE


@pytest.mark.slow
def test_a_broken_link_stops_the_build(tmp_path):
    pytest.importorskip("material", reason="needs wfm[docs]: pip install -e '.[docs]'")
    pytest.importorskip("mkdocstrings", reason="needs wfm[docs]: pip install -e '.[docs]'")
    config = (ROOT / "mkdocs.yml").read_text()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Home\n\n[gone](gone.md)\n")
    start, end = config.index("nav:"), config.index("validation:")
    config = config[:start] + "nav: [index.md]\n\n" + config[end:]
    (tmp_path / "mkdocs.yml").write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode and "gone.md" in done.stderr
