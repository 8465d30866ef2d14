"""Seeded damage: what disks, editors, transfers and strangers make of a file."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

DEEP = 100_000  # brackets, more than any parser follows
HUGE = [2**64 - 1, 2**63 - 1, 2**32 - 1, 2**31 - 1, 2**40, 0]
TEXTS = ["", "\n", "a\nb\x1b[31m", "\ud800", "é" * 200, "../../etc", "0", "NaN"]
VALUES = [None, True, False, -1, 0, 1, 2**31, 10**30, -(10**400), 0.5, float("nan"), float("inf")]
VALUES += [*TEXTS, [], {}, [[]], [None], {"array": "x"}, {"\n": 1}]
MARK = "the deep one"  # json cannot write what is so deep


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one to three of the changes below; JSON may also change in structure."""
    changes: list[Callable[[bytes, random.Random], bytes]]
    changes = [_flip, _truncate, _insert, _remove, _repeat, _swap, _overwrite, _claim]
    if rng.random() < 0.5 and (found := _structure(content)) is not None:
        return _forge(found, rng)
    for _ in range(rng.choice([1, 1, 2, 3])):
        content = rng.choice(changes)(content, rng)
    return content


def _structure(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _cut(content: bytes, rng: random.Random) -> tuple[int, int]:
    """The ends of a chunk."""
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice([1, 2, 4, 8, 64, 1000]))


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(min(len(changed), rng.choice([1, 1, 8]))):
        # Headers are short, and most of what can go wrong is in them.
        last = rng.choice([len(changed), min(len(changed), 64)])
        changed[rng.randrange(last)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _insert(content: bytes, rng: random.Random) -> bytes:
    start, end = _cut(content, rng)
    return content[:start] + rng.randbytes(end - start + 1) + content[start:]


def _remove(content: bytes, rng: random.Random) -> bytes:
    start, end = _cut(content, rng)
    return content[:start] + content[end:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, end = _cut(content, rng)
    return content[:end] + content[start:]


def _swap(content: bytes, rng: random.Random) -> bytes:
    start, end = _cut(content, rng)
    middle = (start + end) // 2
    return content[:start] + content[middle:end] + content[start:middle] + content[end:]


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    start, end = _cut(content, rng)
    return content[:start] + rng.choice([b"\0", b"\xff", b"<"]) * (end - start) + content[end:]


def _claim(content: bytes, rng: random.Random) -> bytes:
    """A size in a binary header, or a number in a text, that nothing lives up to."""
    size = rng.choice(HUGE)
    if (numbers := list(re.finditer(rb"\d+", content[:4000]))) and rng.random() < 0.5:
        found = rng.choice(numbers)
        return content[: found.start()] + str(size).encode() + content[found.end() :]
    width, order = rng.choice([4, 8]), rng.choice(["little", "big"])
    start = rng.randrange(0, 20)
    end = start + width
    return content[:start] + (size % 256**width).to_bytes(width, order) + content[end:]


def _forge(found: Any, rng: random.Random) -> bytes:
    """JSON in which some values, keys or branches are others."""
    found = json.loads(json.dumps({"": found}))
    for _ in range(rng.choice([1, 1, 2])):
        parent, key = rng.choice(list(_places(found)))
        change = rng.randrange(5)
        if change == 0 and parent is not found:
            del parent[key]
        elif change == 1 and isinstance(parent, dict) and parent is not found:
            parent[rng.choice(["format", "value", *TEXTS])] = parent.pop(key)
        elif change == 2 and isinstance(parent, dict):
            parent[key] = {"more": rng.choice(VALUES), "again": parent[key]}
        elif change == 3 and rng.random() < 0.2:
            parent[key] = MARK
        else:
            parent[key] = rng.choice(VALUES)
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    deep = opening * DEEP + "1" + closing * DEEP
    return json.dumps(found[""]).replace(json.dumps(MARK), deep).encode()


def _places(node: Any) -> Any:
    """All places of a structure, as a container and a key in it."""
    keys = node if isinstance(node, dict) else range(len(node) if isinstance(node, list) else 0)
    for key in list(keys):
        yield node, key
        yield from _places(node[key])
