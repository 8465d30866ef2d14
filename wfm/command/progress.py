"""Progress bars on standard error, where it is a terminal and `rich` is installed."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def say(text: str) -> None:
    """One line on standard error, about how a result was made."""
    print(f"note: {text}", file=sys.stderr)


def track(description: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """A function that shows how far a loop over its argument is."""
    progress = _progress()
    if progress is None:
        return iter
    console = importlib.import_module("rich.console").Console(stderr=True)
    return lambda items: progress.track(items, description, console=console, transient=True)


@contextmanager
def bar(description: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A bar that starts with `done`, and is moved by calls with what is done, and a note."""
    progress = _progress()
    if progress is None:
        yield lambda done, note: None
        return
    console = importlib.import_module("rich.console").Console(stderr=True)
    columns = (*progress.Progress.get_default_columns(), progress.TextColumn("{task.fields[note]}"))
    with progress.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(description, total=total, completed=done, note="")
        yield lambda done, note: shown.update(task, completed=done, note=note)


def _progress() -> Any:
    """The module `rich.progress`, or `None` where no bar can be shown."""
    if not sys.stderr.isatty():
        return None
    try:
        return importlib.import_module("rich.progress")
    except ImportError:
        return None
