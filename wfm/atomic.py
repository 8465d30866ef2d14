"""Files and folders that are written completely or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path for writing a file or a folder, which then replaces `path`.

    It has the same name, in a new folder beside `path`, so that processes do not collide. The
    parent folder of `path` is created. After an error what was written is removed, and `path` stays
    as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{path.name}.", suffix=".partial", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        yield partial
        if path.is_dir() and partial.is_dir():  # a folder cannot replace one that exists
            path.rename(Path(folder) / "before")
        partial.replace(path)
