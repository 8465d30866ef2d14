"""Where networks are: one file, a folder of files, or a collection that others published."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wfm.errors import MissingFile, UserError
from wfm.io import model_zoos, orbax_format, small_cnn_zoo
from wfm.io.beside import TABLES, json_of, rows_of_files
from wfm.io.entry import Entry
from wfm.io.formats import read_unnamed
from wfm.io.nested import listed
from wfm.io.networks import natural

# What may stand in a folder beside networks.
OTHER_FILES = {
    *(".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".rst", ".yaml", ".yml", ".toml", ".log"),
    *(".html", ".pdf", ".png", ".svg", ".jpg", ".py", ".ipynb", ".sh", ".sha256", ".lock"),
}
Read = Callable[[Path], Any]


@dataclasses.dataclass(frozen=True)
class Collection:
    """`knows` tells whether a path is of this kind, and `entries` lists what is in it."""

    name: str
    knows: Callable[[Path], bool]
    entries: Callable[[Path, Read], Sequence[Entry]]


def _one_file(path: Path, read: Read) -> list[Entry]:
    return [Entry(path.name, partial(read, path))]


def _folder(path: Path, read: Read) -> list[Entry]:
    """One entry for each file, sorted as people number them."""
    rows = rows_of_files(path)
    there = set(names := sorted((p.name for p in path.iterdir()), key=natural))
    kept = [name for name in names if _is_network(path / name)]
    if not kept:
        inside = [name for name in names if (path / name).is_dir()]
        raise UserError(
            f"{path} holds no files of networks"
            + (f"; give one of its folders, such as {listed(inside, 1)}" if inside else "")
        )
    return [
        Entry(name, partial(read, path / name), _beside(path, name, there, rows)) for name in kept
    ]


def _steps(path: Path) -> list[Path]:
    """The steps that a `CheckpointManager` of orbax kept in its folder."""
    steps = [p for p in path.iterdir() if p.name.isdecimal() and orbax_format.items(p)]
    return sorted(steps, key=lambda step: int(step.name))


def _one_run(path: Path, read: Read) -> list[Entry]:
    """The steps of one training run."""
    return [
        Entry(
            step.name,
            partial(read, step),
            lambda step=step: [{"trajectory": path.name, "step": int(step.name)}],
        )
        for step in _steps(path)
    ]


def _is_network(path: Path) -> bool:
    if path.is_dir():
        return bool(orbax_format.items(path))
    named_otherwise = path.suffix.lower() in OTHER_FILES or path.name in TABLES
    return not path.name.startswith(".") and not named_otherwise


def _beside(
    folder: Path, name: str, there: set[str], rows: Mapping[str, dict[str, Any]] | None
) -> Callable[[], list[Mapping[str, Any]]] | None:
    """What the JSON file, or the table, says of a file, if there is either."""
    stem = Path(name).stem
    if (own := f"{stem}.json") in there:
        return lambda: [json_of(folder / own)]
    if rows is not None:
        return lambda: [rows.get(name) or rows.get(stem) or {}]
    return None


COLLECTIONS = (
    Collection("Small CNN Zoo", small_cnn_zoo.knows, small_cnn_zoo.entries),
    Collection("Model Zoo", model_zoos.knows, model_zoos.entries),
    Collection("file", lambda path: path.is_file() or bool(orbax_format.items(path)), _one_file),
    Collection("run", lambda path: path.is_dir() and bool(_steps(path)), _one_run),
    Collection("folder", Path.is_dir, _folder),
)


def entries(
    path: Path, key: str | None = None, like: Any = None
) -> tuple[Collection, Sequence[Entry]]:
    """What kind of collection is at `path`, and its files; raises `MissingFile` if nothing is."""
    kind = next((kind for kind in COLLECTIONS if kind.knows(path)), None)
    if kind is None:
        raise MissingFile(f"there is no {path}; check the path")
    return kind, kind.entries(path, partial(read_unnamed, key=key, like=like))
