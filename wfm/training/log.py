"""What a person sees while training, and what is left to read afterwards."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


class MetricsLog:
    """A file of JSON lines, one for each record."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._told = False  # of damaged lines

    def write(self, **record: Any) -> None:
        """Append one record."""
        with self.path.open("ab+") as file:
            if file.seek(0, 2):
                file.seek(-1, 2)
                torn = file.read(1) != b"\n"  # by a process that was killed as it wrote
                file.write(b"\n" * torn)
            file.write((json.dumps(record) + "\n").encode())

    def read(self) -> list[dict[str, Any]]:
        """All records so far. Lines that are none are skipped, and a warning tells of them once."""
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
            raise ValueError(
                f"{self.path} cannot be read ({error.strerror}); move it away, or choose another "
                "folder"
            ) from None

    def truncate(self, key: str, last: int) -> None:
        """Drop records beyond `last`, which a resumed run will write again, and damaged lines."""
        kept = [record for record in self.read() if not _is_beyond(record.get(key), last)]
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
        partial.replace(self.path)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # no JSON, or no text
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
        """Move to `done`; `note` stands behind the bar, such as the loss."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:.1f}/s" if speed else ""
        self._progress.update(self._task, completed=done, rate=rate, note=note)


@contextmanager
def progress_bar(description: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A bar with count, rate and time left, on standard error's terminal."""
    columns = (
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as progress:
        yield Bar(progress, total, done)
