"""Files and folders that are there as a whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write a file or a folder at, which then takes its place.

    It has the same name, in a new folder, so that processes do not meet; the folder `path` lies
    in is made. After an error what was written is removed, and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{path.name}.", suffix=".partial", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        yield partial
        if path.is_dir() and partial.is_dir():  # which nothing can take the place of
            path.rename(Path(folder) / "before")
        partial.replace(path)
