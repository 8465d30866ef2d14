"""Progress shown while training, and the log that remains afterwards."""

import json
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from wfm.atomic import replacing, writing
from wfm.errors import UserError
from wfm.jsons import parse

SECONDS = 30  # between lines of progress without a terminal


class MetricsLog:
    """A file of JSON lines, one per record."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._told = False  # about damaged lines

    def write(self, **record: Any) -> None:
        """Append one record."""
        with writing(self.path), self.path.open("ab+") as file:
            if file.seek(0, 2):
                file.seek(-1, 2)
                torn = file.read(1) != b"\n"  # by a process killed while writing
                file.write(b"\n" * torn)
            file.write((json.dumps(record) + "\n").encode())

    def read(self) -> list[dict[str, Any]]:
        """All records so far. Damaged lines are skipped, with one warning."""
        if not self.path.exists():
            return []
        lines = [line for line in self._content().splitlines() if line.strip()]
        records = [r for line in lines if (r := _record(line)) is not None]
        if bad := len(lines) - len(records):
            if not self._told:
                warnings.warn(f"{self.path}: {bad} damaged lines are skipped", stacklevel=2)
            self._told = True
        return records

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be read ({error.strerror}); move it away, or choose another "
                "folder"
            ) from None

    def truncate(self, key: str, last: int) -> None:
        """Drop damaged lines, and records beyond `last`, which a resumed run writes again."""
        kept = [record for record in self.read() if not _is_beyond(record.get(key), last)]
        with replacing(self.path) as partial:
            partial.write_text("".join(json.dumps(record) + "\n" for record in kept))


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse(line)
    except ValueError:  # not JSON, or not text
        return None
    return record if isinstance(record, dict) else None


def _is_beyond(value: Any, last: int) -> bool:
    return isinstance(value, int | float) and value > last


class Bar:
    """A running progress bar."""

    def __init__(self, progress: Progress, total: int, done: int):
        self._progress = progress
        self._task = progress.add_task("", total=total, completed=done, rate="", note="")

    def update(self, done: int, note: str = "") -> None:
        """Move to `done`; `note`, such as the loss, stands behind the bar."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:.1f}/s" if speed else ""
        self._progress.update(self._task, completed=done, rate=rate, note=note)


class Lines:
    """The content of a bar, as an occasional line."""

    def __init__(self, description: str, total: int, done: int):
        self._description, self._total, self._done, self._note = description, total, done, ""
        self._first, self._start, self._last = done, time.monotonic(), time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """As for a bar; prints a line if the last one is `SECONDS` old."""
        self._done, self._note = done, note
        if time.monotonic() - self._last >= SECONDS:
            self.write()

    def write(self) -> None:
        """Print a line with progress and rate."""
        self._last = time.monotonic()
        rate = (self._done - self._first) / max(self._last - self._start, 1e-9)
        parts = [f"{self._description} {self._done}/{self._total}", f"{rate:.1f}/s", self._note]
        print(*filter(None, parts), sep=", ", file=sys.stderr, flush=True)


@contextmanager
def progress_bar(description: str, total: int, done: int = 0) -> Iterator[Bar | Lines]:
    """A bar with count, rate and time left, on standard error.

    If that is not a terminal but, say, a file: a line every `SECONDS` seconds and one at the end.
    """
    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        lines = Lines(description, total, done)
        try:
            yield lines
        finally:
            lines.write()
        return
    columns = (
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, total, done)
