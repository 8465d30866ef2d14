"""Records: one figure each, at its coordinates, with where it comes from."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wfm.atomic import replacing
from wfm.errors import UserError


class Figure(NamedTuple):
    """A number, its spread over networks, and its standard error, where there are such."""

    value: float
    std: float | None = None
    error: float | None = None


Figures = Mapping[str, Figure | float]


@dataclasses.dataclass(frozen=True)
class Source:
    """What made figures: the command, the machine, the day, and the versions of packages."""

    command: str
    hardware: str
    date: str
    versions: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Record:
    """One figure at its place.

    `at`: coordinates, such as `{"flow": "geometric", "steps": 64, "seed": 0}`; `std`: over
    networks; `error`: standard error; `seeds`, `seed_std`: of means over seeds, which seeds, and
    the sample standard deviation of their values; `seconds`: what measuring the place took.
    """

    at: Mapping[str, Any]
    metric: str
    value: float
    std: float | None = None
    error: float | None = None
    seconds: float | None = None
    seeds: tuple[int, ...] | None = None
    seed_std: float | None = None
    source: Source | None = None

    def get(self, name: str) -> Any:
        """A coordinate, of which the metric is one; nothing where the record has none such."""
        return self.metric if name == "metric" else self.at.get(name)


def where(records: Iterable[Record], at: Mapping[str, Any]) -> list[Record]:
    """Those at the given coordinates.

    A tuple of values means any of them, `None` no such coordinate, a function what it is true of.
    """

    def fits(record: Record, name: str, value: Any) -> bool:
        found = record.get(name)
        if callable(value):
            return bool(value(found))
        return found in value if isinstance(value, tuple) else found == value

    return [r for r in records if all(fits(r, name, value) for name, value in at.items())]


def known(value: Any) -> bool:
    """Of a coordinate that a record has, whatever its value."""
    return value is not None


def values(records: Iterable[Record], *names: str) -> list[tuple[Any, ...]]:
    """The values that coordinates have together, in order of appearance."""
    return list(dict.fromkeys(tuple(r.get(name) for name in names) for r in records))


def grouped(records: Iterable[Record], *names: str) -> dict[tuple[Any, ...], list[Record]]:
    """Records by their values of some coordinates, in order of appearance."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for r in records:
        groups.setdefault(tuple(r.get(name) for name in names), []).append(r)
    return groups


def over_seeds(records: Iterable[Record]) -> list[Record]:
    """The mean over seeds of every figure, with the sample standard deviation of the seeds' values.

    `std` is the mean of those over networks. The error of several seeds is that of their mean; of
    one, its own. Figures without a seed stay.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for r in records:
        rest = tuple((k, v) for k, v in r.at.items() if k != "seed")
        groups.setdefault((rest, r.metric), []).append(r)
    return [_mean(group) for group in groups.values()]


def _mean(group: Sequence[Record]) -> Record:
    first = group[0]
    if "seed" not in first.at:
        return first
    at = {k: v for k, v in first.at.items() if k != "seed"}
    found = [r.value for r in group]
    spreads = [r.std for r in group if r.std is not None]
    seed_std = spread(found)
    return dataclasses.replace(
        first,
        at=at,
        value=float(np.mean(found)),
        std=float(np.mean(spreads)) if spreads else None,
        error=first.error if seed_std is None else seed_std / len(found) ** 0.5,
        seeds=tuple(r.at["seed"] for r in group),
        seed_std=seed_std,
    )


def spread(found: Sequence[float]) -> float | None:
    """The sample standard deviation: with the divisor n - 1, as few seeds are drawn from many."""
    return float(np.std(found, ddof=1)) if len(found) > 1 else None


def save(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON, a line each, and a table of where they come from."""
    rows, sources = [], {}
    for r in records:
        row = {f.name: getattr(r, f.name) for f in dataclasses.fields(r)}
        if r.source:
            key = json.dumps(dataclasses.asdict(r.source))
            row["source"] = sources.setdefault(key, len(sources))
        rows.append(json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False))
    text = '{"sources": [\n%s\n],\n"records": [\n%s\n]}\n'
    with replacing(path) as partial:
        partial.write_text(text % (",\n".join(sources), ",\n".join(rows)))


def read(path: Path) -> list[Record]:
    """The records of a file; raises `UserError` where it holds none."""
    try:
        found = json.loads(path.read_bytes())
        sources = [Source(**s) for s in found["sources"]]
        return list(_read(found["records"], sources))
    except FileNotFoundError:
        raise UserError(f"there are no records at {path}; run the study first") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to have it made again") from None


def _read(rows: Iterable[dict[str, Any]], sources: Sequence[Source]) -> Iterator[Record]:
    for row in rows:
        if "source" in row:
            row["source"] = sources[row["source"]]
        if "seeds" in row:
            row["seeds"] = tuple(row["seeds"])
        yield Record(**row)
