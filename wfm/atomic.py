"""Files and folders that are written completely or not at all."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from wfm.errors import CannotWrite

PARTIAL = ".partial"
# What is wrong with the place, not with the program.
PLACE = {getattr(errno, n, 0) for n in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM")}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path for writing a file or a folder, which then replaces `path`.

    It has the same name, in a new folder beside `path`, so that processes do not collide. The
    parent folder of `path` is created. After an error what was written is removed, and `path` stays
    as it was. Raises `CannotWrite` if the disk is full or may not be written to.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = {"prefix": f"{path.name}.", "suffix": PARTIAL, "dir": path.parent}
        with TemporaryDirectory(**beside) as folder:
            partial = Path(folder) / path.name
            yield partial
            if path.is_dir() and partial.is_dir():  # a folder cannot replace one that exists
                path.rename(Path(folder) / "before")
            partial.replace(path)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Raise `CannotWrite` where the system refuses to write, whoever reports that."""
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        if (number := _number(error)) not in PLACE:
            raise
        raise CannotWrite(
            f"{path} cannot be written ({os.strerror(number)}); make room or allow writing there, "
            "and run the same again"
        ) from error


def _number(error: Exception) -> int:
    """The system's number of an error, also of those that safetensors and tensorstore report."""
    found = re.search(r"\(os error (\d+)\)|os_error_code='(\d+)'", str(error))
    return getattr(error, "errno", None) or (int(found[1] or found[2]) if found else -1)


def sweep(folder: Path, names: str = "**/*") -> None:
    """Remove what killed processes left of `replacing` in a folder that nobody else writes to."""
    for left in list(folder.glob(names + PARTIAL)):
        shutil.rmtree(left, ignore_errors=True)
