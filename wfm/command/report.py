"""A report on judged networks: one HTML file that needs nothing from elsewhere."""

import base64
import html
import importlib
import io
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np

from wfm.atomic import replacing
from wfm.command.options import check_new
from wfm.errors import UserError
from wfm.versions import version_of

PACKAGES = ("wfm", "jax", "numpy")
COLORS = {"blue": "#4c72b0", "orange": "#dd8452", "grey": "#8c8c8c"}  # as studies have them
BINS = 20


class Row(NamedTuple):
    """A line of the table: its cells by column, and each network's accuracy and loss."""

    cells: dict[str, str]
    figures: dict[str, np.ndarray]


def check_report(path: Path) -> None:
    """Raise `UserError` if a report cannot be made there, before any work begins."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a new file, such as report.html")
    check_new(path)
    _figure()


def write_report(
    path: Path,
    title: str,
    rows: Sequence[Row],
    columns: Mapping[str, str],
    settings: Mapping[str, str],
) -> None:
    """Write the table of `rows`, what its `columns` mean, pictures, and how it was made."""
    colors = list(COLORS)[: len(rows)] if len(rows) > 1 else ["orange"]
    names = dict(zip(colors, rows, strict=True))
    made = {package: version_of(package) for package in PACKAGES}
    made = {"made": str(date.today())} | made
    text = PAGE.substitute(
        title=html.escape(title),
        table=_table(rows, list(columns)),
        picture=base64.b64encode(picture(names)).decode(),
        caption=html.escape("; ".join(f"{c}: {r.cells['networks']}" for c, r in names.items())),
        columns=_definitions(columns),
        settings=_definitions({**settings, **made, "Python": platform.python_version()}),
    )
    with replacing(path) as partial:  # names of files may be no text
        partial.write_text(text, "utf-8", "xmlcharrefreplace")


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    lines = [_line("th", columns)]
    lines += [_line("td", [row.cells.get(name, "") for name in columns]) for row in rows]
    return "\n".join(lines)


def _line(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(c)}</{tag}>' for c in cells)}</tr>"


def _definitions(terms: Mapping[str, str]) -> str:
    return "\n".join(
        f"<dt>{html.escape(term)}</dt><dd>{html.escape(meaning)}</dd>"
        for term, meaning in terms.items()
    )


def picture(rows: Mapping[str, Row]) -> bytes:
    """Histograms of accuracy and of loss, as PNG, of rows by their colours."""
    figure = _figure()(figsize=(8.8, 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        _histogram(axes, metric, {c: row.figures[metric] for c, row in rows.items()})
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _histogram(axes: Any, metric: str, values: Mapping[str, np.ndarray]) -> None:
    """Shares of networks, on common bins; networks without a finite figure are counted apart."""
    finite = {color: v[np.isfinite(v)].astype(float) for color, v in values.items()}
    bins = _edges(np.concatenate(list(finite.values())))
    for color, v in finite.items():
        shares = np.full(len(v), 1 / max(len(values[color]), 1))
        axes.hist(v, bins, weights=shares, alpha=0.6, color=COLORS[color])
    missing = sum(len(values[color]) - len(v) for color, v in finite.items())
    note = f" ({missing} networks without one)" if missing else ""
    axes.set(xlabel=f"test {metric}{note}", ylabel="share of networks")
    axes.locator_params(axis="x", nbins=5)


def _edges(values: np.ndarray) -> list[float]:
    """Edges of bins, also where values are equal, up to rounding, or there are none."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    size = max(abs(low), abs(high), 1.0)
    room = 0.05 * size if high - low < 1e-6 * size else 0.0
    return np.linspace(low - room, high + room, BINS + 1).tolist()


def _figure() -> Any:
    """matplotlib's class of figures, which needs no screen."""
    try:
        return importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        raise UserError(
            "a report has pictures, and matplotlib is not installed; `pip install 'wfm[command]'`"
        ) from None


PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body { font-family: system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere }
table { border-collapse: collapse }
th, td { padding: 0.3rem 0.8rem; border-bottom: 1px solid #ddd; text-align: left }
figure { margin: 2rem 0 }
img { max-width: 100%; height: auto }
figcaption, dd { color: #555 }
dt { font-weight: 600; margin-top: 0.5rem }
</style>
<h1>$title</h1>
<table>
$table
</table>
<figure><img src="data:image/png;base64,$picture" alt="Histograms of test accuracy and test loss">
<figcaption>$caption</figcaption></figure>
<h2>Columns</h2>
<dl>
$columns
</dl>
<h2>Settings</h2>
<dl>
$settings
</dl>
</html>
""")
