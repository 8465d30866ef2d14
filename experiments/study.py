"""A study: a base config, rows that change it, seeds, measures, and the page."""

import dataclasses
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.command import Config, flat, override
from experiments.pages import Block
from wfm.errors import UserError

FOLDER = Path(__file__).parent.parent / "configs"
# A row that is measured differently from its study says so in its coordinates.
HOW_MEASURED = ("task", "split", "sampling.networks", "averages")
At = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """One setting of a study: its coordinates, its changes to the base, what is expected.

    `seeds` and `measures` are set if they differ from those of the study. Rows with `dear` true run
    only if `--only` asks for them.
    """

    at: At
    change: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    expected: str = ""
    seeds: tuple[int, ...] = ()
    measures: tuple[str, ...] = ()
    dear: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study: a config, what is measured, and where the figures belong."""

    at: At
    config: Config
    measures: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Study:
    """What is run, measured and shown; `name` is also the name of the page.

    `measures` are names in `experiments.measures`. `seeds` are those of every row, by default that
    of `base`. Rows keep their order.
    """

    name: str
    base: Config
    measures: tuple[str, ...]
    rows: tuple[Row, ...] = (Row({}),)
    seeds: tuple[int, ...] = ()
    page: tuple[Block, ...] = ()

    def cells(self, only: At | None = None, every: bool = False) -> list[Cell]:
        """A config for every row and seed; with `only`, only for rows at those coordinates.

        `every`: all cells, including those that run only when asked for.
        """
        found = list(self._cells({} if every else only or {}, every))
        if not found:
            raise UserError(f"study {self.name} has no row at {text(only or {})}; {self._known()}")
        places = [json.dumps(cell.at, sort_keys=True, default=str) for cell in found]
        if twice := [p for p in places if places.count(p) > 1]:
            raise UserError(f"two rows of study {self.name} are both at {twice[0]}; name the rest")
        return found

    def _cells(self, only: At, every: bool) -> Iterator[Cell]:
        for row in self.rows:
            if (row.dear and not only and not every) or not matches(row.at, only):
                continue
            for seed in row.seeds or self.seeds or (self.base.seed,):
                config = self.base.copy_and_resolve_references()
                changed(config, row)
                config.seed = seed
                yield Cell({**row.at, "seed": seed}, config, row.measures or self.measures)

    def overridden(self, options: Sequence[str]) -> "Study":
        """The study with another base; refused if a row sets the same key."""
        base = self.base.copy_and_resolve_references()
        keys = override(base, options)
        for row in self.rows:
            if both := [key for key in keys if key in flat(row.change)]:
                raise UserError(
                    f"row {text(row.at)} of study {self.name} sets {both[0]} itself; change the "
                    "study's file, or choose another key"
                )
        if "seed" not in keys:
            return dataclasses.replace(self, base=base)
        rows = tuple(dataclasses.replace(row, seeds=()) for row in self.rows)
        return dataclasses.replace(self, base=base, rows=rows, seeds=())

    def _known(self) -> str:
        names = dict.fromkeys(name for row in self.rows for name in row.at)
        values = {n: dict.fromkeys(str(r.at[n]) for r in self.rows if n in r.at) for n in names}
        return "its rows have " + "; ".join(f"{n}: {', '.join(v)}" for n, v in values.items())


def changed(config: Config, row: Row) -> None:
    """Change a config as a row says; its coordinates must name what else it measures."""
    before = flat(config.to_dict())
    config.lock()  # refuses unknown keys
    try:
        config.update(row.change)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"row {text(row.at)} cannot change its config: {error}") from None
    after = flat(config.to_dict())
    for key in HOW_MEASURED:
        if before.get(key) != after.get(key) and key.split(".")[-1] not in row.at:
            raise UserError(
                f"row {text(row.at)} changes {key}, so that its figures mean something else than "
                f"those of other rows; name {key.split('.')[-1]!r} among its coordinates"
            )


def matches(at: At, where: At) -> bool:
    """Whether coordinates have the values of `where`, read as text."""
    return all(name in at and str(at[name]) == str(value) for name, value in where.items())


def load(name: str) -> Study:
    """The study `NAME[:VARIANT]`: a file in `configs/`, or the path of another file."""
    file, _, variant = name.partition(":")
    module = config_module(file)
    variants = getattr(module, "VARIANTS", ())
    if variant and variant not in variants:
        raise UserError(
            f"{file} has no variant {variant!r}; choose one of {', '.join(variants) or 'none'}"
        )
    return module.get_study(variant) if variant else module.get_study()


def config_module(name: str) -> ModuleType:
    """The module of a study's file."""
    path = Path(name) if name.endswith(".py") else FOLDER / f"{name}.py"
    if not path.is_file() or "def get_study" not in path.read_text():
        raise UserError(
            f"there is no study {name!r}; choose one of {', '.join(names())}, or a file"
        )
    if path.parent == FOLDER:
        return importlib.import_module(f"configs.{path.stem}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names() -> list[str]:
    """The studies of `configs/`."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if "def get_study" in p.read_text())


def text(at: At) -> str:
    """Coordinates as readable text."""
    return ", ".join(f"{name} {value}" for name, value in at.items()) or "(base)"
