"""The formats of files with weights, known by their content. No reader runs code of a file."""

import dataclasses
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from wfm.atomic import replacing
from wfm.digest import digest
from wfm.errors import MissingFile, UserError
from wfm.io import hdf5_format, msgpack_format, numpy_format, orbax_format, torch_format
from wfm.io.nested import Named, flat, listed, under
from wfm.weights import load_weights, save_weights
from wfm.zoo.weight_set import SEAL

HEAD = 64  # bytes by which a format is known


@dataclasses.dataclass(frozen=True)
class Format:
    """`knows` tells from the first bytes, and the path, whether a file is of this format.

    `read` gives arrays, numbers and texts in nested containers, and `network` the part of them
    that is a network, if that is plain. `write`: named arrays, if files are written.
    """

    name: str
    suffix: str
    knows: Callable[[bytes, Path], bool]
    read: Callable[[Path], Any]
    network: Callable[[Any], Any] = lambda found: found
    write: Callable[[Path, Mapping[str, np.ndarray]], None] | None = None


def _starts(*marks: bytes) -> Callable[[bytes, Path], bool]:
    return lambda head, path: head.startswith(marks)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _zip(member: Callable[[str], bool], whole: bool = False) -> Callable[[bytes, Path], bool]:
    """Whether a file is a zip file with a member like this, or with such alone."""
    enough = all if whole else any

    def knows(head: bytes, path: Path) -> bool:
        names = _members(path) if head.startswith(b"PK") else []
        return bool(names) and enough(map(member, names))

    return knows


def _refuse(why: str) -> Callable[[Path], Any]:
    def read(path: Path) -> NoReturn:
        raise UserError(why)

    return read


def _read_safetensors(path: Path) -> dict[str, Any]:
    arrays, marks = load_weights(path)
    if SEAL in marks and marks[SEAL] != digest(arrays):
        raise UserError("it was altered or damaged since its zoo was saved; take another copy")
    return marks | arrays


def _safetensors(head: bytes, path: Path) -> bool:
    """The length of a header, and the header."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and (length < path.stat().st_size or path.suffix == ".safetensors")


def _packed(head: bytes, path: Path) -> bool:
    """A map of msgpack: of few entries, unless it is empty, or of many."""
    return head[:1] in (b"\xde", b"\xdf") or b"\x81" <= head[:1] <= b"\x8f"


PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
FORMATS = {
    format.name: format
    for format in (
        Format(
            "torch",
            ".pt",
            # Legacy files are pickles, and so is what only looks like one: torch refuses it.
            lambda head, path: head.startswith(PICKLES) or _torch_zip(head, path),
            torch_format.read,
            torch_format.network_of,
            torch_format.write,
        ),
        Format(
            "npz",
            ".npz",
            _zip(lambda name: name.endswith(".npy"), whole=True),
            numpy_format.read_npz,
            write=numpy_format.write_npz,
        ),
        Format(
            "hdf5",
            ".h5",
            _starts(b"\x89HDF\r\n\x1a\n"),
            hdf5_format.read,
            write=hdf5_format.write,
        ),
        Format(
            "safetensors",
            ".safetensors",
            _safetensors,
            _read_safetensors,
            write=save_weights,
        ),
        Format("msgpack", ".msgpack", _packed, msgpack_format.read, write=msgpack_format.write),
        Format("equinox", ".eqx", _starts(b"\x93NUMPY"), numpy_format.read_leaves),
        Format("orbax", "", lambda head, path: bool(orbax_format.items(path)), orbax_format.read),
    )
}
"""By name, with those that are written."""

_torch_zip = _zip(lambda name: name.endswith("/data.pkl"))
ARCHIVE = "it is an archive of files; unpack it, and give the folder"
CUT = "it is damaged, or incomplete: a zip file without its end; get it again"
REFUSED = (
    Format(
        "zip", "", lambda head, path: bool(head[:2] == b"PK" and _members(path)), _refuse(ARCHIVE)
    ),
    Format("part of a zip", "", _starts(b"PK"), _refuse(CUT)),
    Format("gzip", "", _starts(b"\x1f\x8b"), _refuse(ARCHIVE)),
    Format("xz", "", _starts(b"\xfd7zXZ"), _refuse(ARCHIVE)),
    Format(
        "pointer",
        "",
        _starts(b"version https://git-lfs"),
        _refuse("it is a pointer of Git LFS, not the file; get the file by `git lfs pull`"),
    ),
    Format(
        "folder",
        "",
        lambda head, path: path.is_dir(),
        _refuse("it is a folder; `load_networks` and `examine` read folders"),
    ),
    Format("empty", "", lambda head, path: not head, _refuse("it is empty")),
    Format(
        "unknown",
        "",
        lambda head, path: True,
        _refuse(f"it is of no format that is read here: {', '.join(FORMATS)}"),
    ),
)


def format_of(path: Path) -> Format:
    """The format of a file or folder, by its content; raises `MissingFile` if it is not there."""
    if not path.exists():
        raise MissingFile(f"there is no {path}; check the path")
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD)
    return next(f for f in (*FORMATS.values(), *REFUSED) if f.knows(head, path))


def read_unnamed(path: Path, key: str | None = None, like: Any = None) -> Named:
    """`read_arrays`, whose errors do not name the file."""
    found = format_of(path)
    try:
        if like is not None and found.name == "equinox":
            return flat(numpy_format.named_as(like, path))
        tree = found.read(path)
        return flat(found.network(tree)) if key is None else under(key, flat(tree))
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail anywhere, with any exception
        raise UserError(
            f"it is damaged, or incomplete: it cannot be read as {found.name} "
            f"({type(error).__name__}); get it again"
        ) from error


def read_arrays(
    path: str | Path, key: str | None = None, like: Any = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays of one file by name, as they are, and the numbers and texts beside them.

    The file may be of any format in `FORMATS`, whatever its suffix: the content tells. Names of
    nested containers are joined with dots. Types stay: half, bfloat16 and double precision too.
    `key`: only what is below this name, such as `"model"` of a checkpoint that holds several
    networks. `like`: for Equinox, whose files have no names, the module that was written.

    No code of a file is run: a pickle that asks for more than arrays is refused. Raises
    `UserError`, in one sentence that names the file.
    """
    path = Path(path)
    with naming(path):
        return read_unnamed(path, key, like)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of input inside say which file they are about."""
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error


def write_arrays(path: str | Path, arrays: Mapping[str, Any], format: str = "torch") -> None:
    """Write named arrays to one file, atomically; `read_arrays` reads it.

    `format`: a name in `FORMATS`. bfloat16 becomes float32 in formats that lack it.
    """
    write = writer(format)
    with replacing(path) as partial:
        write(partial, {name: np.asarray(a) for name, a in arrays.items()})


def writer(format: str) -> Callable[[Path, Mapping[str, np.ndarray]], None]:
    """How files of a format are written; raises `UserError` if they are not."""
    found = FORMATS.get(format)
    if found is None or found.write is None:
        names = [name for name, each in FORMATS.items() if each.write]
        raise UserError(f"files are not written as {format!r}; choose one of {listed(names, 9)}")
    return found.write
