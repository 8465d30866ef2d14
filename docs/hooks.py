"""What mkdocs cannot know: pages from outside docs/, links that lead there, and mathematics.

Notebooks in examples/ are executed for the site, and the committed ones stay as they are; with
`WFM_DOCS_EXECUTE=off` their committed outputs are shown instead, for a quick look while writing.
Links to files that are no pages lead to the project's `Source` in pyproject.toml; while it names
none they are words, as in the README of a package index (hatch_build.py).
"""

import ast
import base64
import html
import importlib
import os
import posixpath
import re
import runpy
import tomllib
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCE = PROJECT.get("urls", {}).get("Source", "").rstrip("/")
MOVED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
MOVED |= {f"examples/{p.name}": f"examples/{p.stem}.md" for p in ROOT.glob("examples/*.ipynb")}
ORIGIN = {page: path for path, page in MOVED.items()}
FENCE = re.compile(r"(^[ \t]*```.*?^[ \t]*```[ \t]*$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files, config):
    for path, page in MOVED.items():
        if path.endswith(".md"):
            files.append(File.generated(config, page, content=(ROOT / path).read_text()))
            continue
        text, pictures = as_markdown(ROOT / path)
        files.append(File.generated(config, page, content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"examples/{name}", content=picture))
    return files


def on_page_markdown(markdown, page, config, files):
    here = page.file.src_uri
    if here == "api/wfm.md":
        markdown += front()
    parts = FENCE.split(markdown)  # code stays as it is
    return "".join(part if i % 2 else relinked(part, here) for i, part in enumerate(parts))


def on_page_content(content, page, config, files):
    """Mathematics as MathML, which browsers show without any script."""

    def rendered(match):
        block = match[1] == "div"
        formula = convert(html.unescape(match[2]), display="block" if block else "inline")
        if "\\" in formula:  # what the converter does not know it copies
            raise PluginError(f"{page.file.src_uri}: no MathML for {match[2]}")
        return formula

    formula = r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>'
    return re.sub(formula, rendered, content, flags=re.DOTALL)


def on_post_build(config):
    """Every public name has its place, also where a module has the name of its function."""
    for page in sorted(Path(config.site_dir, "api").glob("*.html")):
        package = f"wfm.{page.stem}"
        names = [] if page.stem == "wfm" else importlib.import_module(package).__all__
        places = set(re.findall(r'id="([\w.]+)"', page.read_text()))
        if missing := [n for n in names if not places & {f"{package}.{n}", f"{package}.{n}.{n}"}]:
            raise PluginError(f"api/{page.name} shows nothing of {', '.join(missing)}")


def relinked(text: str, here: str) -> str:
    """Markdown of the page `here` whose links lead to pages, to `SOURCE`, or nowhere."""
    origin = ORIGIN.get(here, f"docs/{here}")

    def link(match):
        picture, words, target, anchor = match[1], match[2], match[3], match[4] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        page = MOVED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if page and not (ROOT / path).is_dir():
            to = posixpath.relpath(page, posixpath.dirname(here) or ".")
            return f"{picture}[{words}]({to}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # which mkdocs refuses
        return f"{picture}[{words}]({SOURCE}/{path}{anchor})" if SOURCE else words

    # GitHub reads $$…$$ inside a paragraph, Python-Markdown only as one of its own.
    text = re.sub(r"^[ \t]*(\$\$.*?\$\$)[ \t]*$", r"\n\1\n", text, flags=re.DOTALL | re.MULTILINE)
    return LINK.sub(link, text)


def front() -> str:
    """A table of the names of `wfm` itself, which are imported when they are used."""
    stub = ast.parse((ROOT / "wfm" / "__init__.pyi").read_text())
    rows = [
        (node.module, alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module not in ("wfm", "flax.nnx")
        for alias in node.names
    ]
    paged = {p.stem for p in (ROOT / "docs" / "api").glob("*.md")}
    lines, blocks = ["", "", "| name | is |", "|---|---|"], []
    for module, name in rows:
        package = module.removeprefix("wfm.")
        if package in paged:
            lines.append(f"| `wfm.{name}` | [`{module}.{name}`]({package}.md) |")
        else:
            lines.append(f"| `wfm.{name}` | below |")
            blocks.append(f"::: {module}.{name}\n    options:\n      show_root_heading: true\n")
    lines.append("| `wfm.Rngs` | `flax.nnx.Rngs`, which seeds the parameters of a field |\n")
    return "\n".join(lines + blocks)


def as_markdown(path: Path) -> tuple[str, dict[str, bytes]]:
    """A page of a notebook, and its pictures."""
    if os.environ.get("WFM_DOCS_EXECUTE") == "off":
        notebook = nbformat.read(path, as_version=4)
    else:
        print(f"INFO    -  Executing {path.name}", flush=True)
        notebook = runpy.run_path(str(ROOT / "examples" / "run.py"))["execute"](path)
    text, pictures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text.append(cell.source)
            continue
        text.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                text.append(f"![Output of the code above]({name})")
            else:
                shown = output.get("text") or data.get("text/plain", "")
                text.append(f"```text\n{shown.rstrip()}\n```")
    return "\n\n".join(text) + "\n", pictures
