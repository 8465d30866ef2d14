"""Files from elsewhere: downloaded once, into the user's cache, and checked by their SHA-256."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urldefrag, urlparse

import pooch

from wfm.errors import MissingFile, UserError


def download(url: str, sha256: str, place: str, remedy: str) -> Path:
    """The file at `url`, kept at `place` in the user's cache.

    Raises `MissingFile`, whose sentence ends with `remedy`, if there is no network, no such file,
    or a file with another SHA-256.
    """
    to = PurePosixPath(place)
    try:
        return Path(pooch.retrieve(url, sha256, to.name, pooch.os_cache("wfm") / to.parent))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise MissingFile(f"{url} cannot be downloaded ({reason}); {remedy}") from None


def download_artefact(url: str) -> Path:
    """The file at `https://…#sha256=HEX`, the form in which pip writes checksums."""
    address, fragment = urldefrag(url)
    if urlparse(address).scheme != "https":
        raise UserError(f"{url} is not fetched; give a path, or a URL that starts with https://")
    sha256 = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment.lower())
    if not sha256:
        raise UserError(
            f"{url} does not say which file is meant; add #sha256= and the 64 hexadecimal digits "
            "of its SHA-256, which those who publish it give"
        )
    name = PurePosixPath(urlparse(address).path).name
    remedy = "check address and checksum, or download it elsewhere and give its path"
    return download(address, sha256[1], f"artefacts/{sha256[1][:16]}-{name}", remedy)
