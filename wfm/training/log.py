"""What a person sees while training, and what is left to read afterwards."""

import json
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

    def write(self, **record: Any) -> None:
        """Append one record."""
        with self.path.open("ab+") as file:
            if file.seek(0, 2):
                file.seek(-1, 2)
                torn = file.read(1) != b"\n"  # by a process that was killed as it wrote
                file.write(b"\n" * torn)
            file.write((json.dumps(record) + "\n").encode())

    def read(self) -> list[dict[str, Any]]:
        """All records so far; a torn line is none."""
        if not self.path.exists():
            return []
        return [r for line in self.path.read_text().splitlines() if (r := _record(line))]

    def truncate(self, key: str, last: int) -> None:
        """Drop records beyond `last`, which a resumed run will write again."""
        kept = [record for record in self.read() if record.get(key, last) <= last]
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
        partial.replace(self.path)


def _record(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


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
