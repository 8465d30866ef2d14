"""JSON of files, which may hold anything, and its seal."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wfm.errors import UserError


def parse(text: bytes) -> Any:
    """The content of JSON; raises `UserError` if it is no JSON, or cannot be written again."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()  # halves of characters are read, not written
    except RecursionError:
        raise UserError("it is nested too deep") from None
    return found


def digest_of_json(value: Any) -> str:
    """SHA-256 of what JSON can hold, in whatever order its keys are."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its digest, by which `unseal` knows whether it was altered."""
    return {"digest": digest_of_json(content), "content": content}


def unseal(record: Any) -> dict[str, Any]:
    """The content of what `seal` returned; raises `UserError` if it was altered."""
    content = record.get("content") if isinstance(record, dict) else None
    if not isinstance(content, dict) or record.get("digest") != digest_of_json(content):
        raise UserError("it is not what was saved")
    return content


def newer_format(path: Path, number: int, newest: int) -> UserError:
    """The refusal of a file whose format only later versions know."""
    return UserError(
        f"{path} has format {number}, and this version of wfm reads none beyond {newest}; install "
        "a newer one"
    )
