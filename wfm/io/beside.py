"""What stands beside files of weights: JSON and CSV."""

import csv
import functools
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wfm.errors import UserError
from wfm.io.nested import flat, listed
from wfm.jsons import parse

TABLES = ("metrics.csv", "metrics.csv.gz")
FILE_COLUMNS = ("file", "filename", "file_name", "name", "path", "network", "model")


def figures(value: Any) -> dict[str, Any]:
    """Numbers and texts of nested JSON, with names joined by dots."""
    return flat(value)[1]


def json_of(path: Path) -> dict[str, Any]:
    """What the JSON file beside a file says."""
    try:
        return figures(parse(path.read_bytes()))
    except (ValueError, RecursionError):
        raise UserError(f"{path.name} beside it is no JSON; mend or remove it") from None


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one in each line, but for a last line that was cut off."""
    found, lines = [], path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            found.append(figures(parse(line)) if line.strip() else {})
        except (ValueError, RecursionError):
            if number < len(lines):
                raise UserError(f"line {number} of {path.name} is no JSON") from None
    return found


def table(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file, packed by gzip or not, with numbers where cells are numbers."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        reader = csv.DictReader(io.StringIO(content.decode()), strict=True)
        return [_row(row) for row in reader]
    except (OSError, EOFError, ValueError, csv.Error, zlib.error):
        raise UserError(f"{path} is damaged, or no table of comma-separated values") from None


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise UserError("a row has other cells than the header")
    return {name: _number(cell) for name, cell in row.items()}


@functools.lru_cache(maxsize=4096)  # settings repeat in every row
def _number(cell: str) -> Any:
    try:
        return math.nan if not cell else int(cell) if cell.isdecimal() else float(cell)
    except ValueError:
        return cell


def rows_of_files(folder: Path) -> dict[str, dict[str, Any]] | None:
    """The rows of the table of a folder by the file that each is about, if there is a table."""
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    if not tables:
        return None
    rows = table(tables[0])
    columns = list(rows[0]) if rows else [FILE_COLUMNS[0]]
    column = next((c for c in columns if c.lower() in FILE_COLUMNS), None)
    if column is None:
        raise UserError(
            f"{tables[0]} has no column for the file that a row is about, which is named "
            f"{listed(FILE_COLUMNS, 9)}; its columns are {listed(columns)}"
        )
    found = {str(row.pop(column)): row for row in rows}
    if len(found) < len(rows):
        raise UserError(f"{tables[0]} has several rows for one file")
    return found


def blocks(n: int, size: int) -> Iterator[range]:
    """The numbers below `n` in blocks."""
    return (range(start, min(start + size, n)) for start in range(0, n, size))
