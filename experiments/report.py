"""An HTML report of a run, readable without a server."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.pages import Page, body, padded, without_pictures
from experiments.records import Record
from experiments.study import Study
from experiments.workdir import CELLS, Workdir
from wfm.atomic import replacing


def tables(study: Study, found: Sequence[Record], workdir: Workdir) -> str:
    """The terminal output of a run: its page without pictures."""
    page = Page(study, found, workdir / study.name, workdir / CELLS)
    return padded(without_pictures(body(page)))


def write(study: Study, found: Sequence[Record], workdir: Workdir) -> None:
    """Write `report.html`, which contains all pictures."""
    pictures = sorted((workdir / CELLS).rglob("*.png"))
    config = json.loads((workdir / "config.json").read_text())
    text = PAGE.format(
        title=html.escape(f"wfm run {workdir.path.name}"),
        table=html.escape(tables(study, found, workdir)),
        pictures="".join(map(_figure, pictures)),
        config=html.escape(json.dumps(config, indent=2)),
    )
    with replacing(workdir / "report.html") as partial:
        partial.write_text(text)


def _figure(path: Path) -> str:
    caption = html.escape(f"{path.stem}: {path.parent.name}")
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font-family: system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere }}
pre {{ overflow-x: auto; background: #f5f5f5; padding: 1rem; overflow-wrap: normal }}
figure {{ display: inline-block; margin: 0 1rem 1rem 0; max-width: 100% }}
img {{ max-width: 100%; height: auto }}
figcaption {{ color: #555 }}
</style>
<h1>{title}</h1>
<pre>{table}</pre>
{pictures}
<h2>Config</h2>
<pre>{config}</pre>
</html>
"""
