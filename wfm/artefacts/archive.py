"""Archives: the files of an artefact as one zip file, from which nothing else is read."""

import stat
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

from wfm.errors import UserError

LARGEST = 2**30  # bytes, unpacked
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that zip knows
UNIX = 3
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
REMEDY = "get it again from where it was made"
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError),
    *(NotImplementedError, RuntimeError, OverflowError),  # versions of zip that Python cannot read
)


def pack(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an archive; the same files give the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system, info.external_attr = UNIX, (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)


def unpack(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """The files of an archive, which may hold those named and nothing else.

    Nothing is written. Raises `UserError` for other members, links, encryption, and archives that
    are damaged or unpack to more than `LARGEST` bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(path, members, names)
            return {member.filename: archive.read(member) for member in members}
    except UserError:
        raise
    except DAMAGED:  # whose messages may quote what is damaged
        raise UserError(f"{path} is damaged or no zip file; {REMEDY}") from None


def _check(path: Path, members: list[zipfile.ZipInfo], names: Collection[str]) -> None:
    found = [member.filename for member in members]
    for member in members:
        if member.filename not in names or found.count(member.filename) > 1:
            raise UserError(
                f"{path} holds {member.filename!r}, which a saved artefact does not, or not twice; "
                "take an archive as it was saved"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(
                f"{path} holds a link, {member.filename!r}; take an archive as it was saved"
            )
        if member.flag_bits & 1:
            raise UserError(
                f"{path} is encrypted; unpack it with its password, and give the folder"
            )
        if member.compress_type not in METHODS:
            raise UserError(f"{path} is compressed in an unusual way; zip it again by deflation")
    if (size := sum(member.file_size for member in members)) > LARGEST:
        raise UserError(
            f"{path} unpacks to {size:,} bytes, more than the {LARGEST:,} that are read from an "
            "archive; if you trust it, unpack it and give the folder"
        )
