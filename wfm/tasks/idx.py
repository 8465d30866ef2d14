"""Arrays in IDX files, the format of MNIST: http://yann.lecun.com/exdb/mnist."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from wfm.errors import UserError

GZIP = b"\x1f\x8b"
# The third byte of a file gives the type of its entries, which are big-endian.
ENTRIES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an IDX file, plain or compressed by gzip, with as many axes as the file says.

    Raises `UserError` if it is not such a file, or is incomplete.
    """
    path = Path(path)
    content = _unpacked(path)
    code, n_axes = (content[2], content[3]) if len(content) > 3 else (0, 0)
    if content[:2] != b"\0\0" or code not in ENTRIES:
        what = "a web page" if content.lstrip()[:1] == b"<" else "no IDX file"
        raise UserError(
            f"{path} is {what} (it starts with {content[:4]!r}); delete it, and download it again"
        )
    header = 4 + 4 * n_axes
    shape = np.frombuffer(content[4:header], ">u4", count=-1 if len(content) >= header else 0)
    dtype = np.dtype(ENTRIES[code])
    promised = header + dtype.itemsize * math.prod(map(int, shape))
    if len(shape) < n_axes or len(content) != promised:
        raise UserError(
            f"{path} has {len(content):,} bytes (unpacked) where its header promises "
            f"{promised:,}; it is damaged, so download it again"
        )
    try:
        return np.frombuffer(content[header:], dtype).reshape(shape.astype(int))
    except ValueError:  # no entries, along more axes, or longer ones, than an array can have
        raise UserError(f"{path} is damaged: it claims {n_axes} axes; download it again") from None


def _unpacked(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); put the IDX file there"
        ) from None
    if content[:2] != GZIP:
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be unpacked ({error}); it is damaged, so download it again"
        ) from None
