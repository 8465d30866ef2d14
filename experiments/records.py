"""Records: each is one figure at its coordinates, with its origin."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wfm.atomic import replacing
from wfm.errors import UserError
from wfm.jsons import newer_format, parse


class Figure(NamedTuple):
    """A number, its spread over networks, and its standard error, if any."""

    value: float
    std: float | None = None
    error: float | None = None


FORMAT = 1
NUMBERS = ("value", "std", "error", "seconds", "seed_std")
Figures = Mapping[str, Figure | float]


@dataclasses.dataclass(frozen=True)
class Source:
    """The origin of figures: the command, the machine, the day, and package versions."""

    command: str
    hardware: str
    date: str
    versions: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Record:
    """One figure at its coordinates.

    `at`: coordinates, such as `{"flow": "geometric", "steps": 64, "seed": 0}`; `std`: over
    networks; `error`: standard error; `seeds`, `seed_std`: for means over seeds, the seeds and the
    sample standard deviation of their values; `seconds`: the time taken to measure it.
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
        """A coordinate, or the metric; `None` if the record has no such coordinate."""
        return self.metric if name == "metric" else self.at.get(name)


def where(records: Iterable[Record], at: Mapping[str, Any]) -> list[Record]:
    """The records at the given coordinates.

    A tuple means any of its values, `None` means no such coordinate, and a function selects the
    values for which it is true.
    """

    def fits(record: Record, name: str, value: Any) -> bool:
        found = record.get(name)
        if callable(value):
            return bool(value(found))
        return found in value if isinstance(value, tuple) else found == value

    return [r for r in records if all(fits(r, name, value) for name, value in at.items())]


def known(value: Any) -> bool:
    """Whether a record has a coordinate, whatever its value."""
    return value is not None


def values(records: Iterable[Record], *names: str) -> list[tuple[Any, ...]]:
    """The combinations of coordinate values, in order of appearance."""
    return list(dict.fromkeys(tuple(r.get(name) for name in names) for r in records))


def grouped(records: Iterable[Record], *names: str) -> dict[tuple[Any, ...], list[Record]]:
    """Records by their values of some coordinates, in order of appearance."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for r in records:
        groups.setdefault(tuple(r.get(name) for name in names), []).append(r)
    return groups


def over_seeds(records: Iterable[Record]) -> list[Record]:
    """The mean of every figure over seeds, with the sample standard deviation of the seeds' values.

    `std` is the mean of the standard deviations over networks. For several seeds the error is that
    of their mean; for one seed it is its own. Figures without a seed stay.
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
    """The sample standard deviation, with divisor n - 1, because few seeds are drawn from many."""
    return float(np.std(found, ddof=1)) if len(found) > 1 else None


def save(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON, one per line, and a table of their sources."""
    rows, sources = [], {}
    for r in records:
        row = {f.name: getattr(r, f.name) for f in dataclasses.fields(r)}
        if r.source:
            key = json.dumps(dataclasses.asdict(r.source))
            row["source"] = sources.setdefault(key, len(sources))
        rows.append(json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False))
    text = '{"format": %d, "sources": [\n%s\n],\n"records": [\n%s\n]}\n'
    with replacing(path) as partial:
        partial.write_text(text % (FORMAT, ",\n".join(sources), ",\n".join(rows)))


def read(path: Path) -> list[Record]:
    """The records of a file; raises `UserError` if it holds none."""
    try:
        found = parse(path.read_bytes())
        if (number := found.get("format", 1)) <= FORMAT:
            sources = [_source(**s) for s in found["sources"]]
            return list(_read(found["records"], sources))
    except FileNotFoundError:
        raise UserError(f"there are no records at {path}; run the study first") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to have it made again") from None
    raise newer_format(path, number, FORMAT)


def _source(**fields: Any) -> Source:
    source = Source(**fields)
    _check((str,), {**fields, **source.versions, "versions": ""})
    return source


def _read(rows: Iterable[dict[str, Any]], sources: Sequence[Source]) -> Iterator[Record]:
    for row in rows:
        numbers = {name: row[name] for name in NUMBERS if name in row}
        _check((int, float), numbers)
        list(map(float, numbers.values()))  # as large as a float, at most
        _check((str,), {"metric": row["metric"]})
        _check((str, int, float, bool, type(None)), row["at"])
        if "source" in row:
            row["source"] = dict(enumerate(sources))[row["source"]]
        if "seeds" in row:
            row["seeds"] = tuple(row["seeds"])
            _check((int,), dict(enumerate(row["seeds"])))
        yield Record(**row)


def _check(kinds: Sequence[type], found: Mapping[Any, Any]) -> None:
    """Raise `TypeError` for values of other kinds."""
    for name, value in found.items():
        if type(value) not in kinds:
            raise TypeError(f"{name} is of type {type(value).__name__}")
