"""Running a study: cells, their measures, records, pictures, and a report to look at."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from experiments import records, report, store
from experiments.command import UsageError, choose
from experiments.measures import MEASURES, Measure, Point
from experiments.pages import folder_of
from experiments.records import Figure, Record, Source
from experiments.stages import Run
from experiments.store import Store
from experiments.study import Cell, Study
from experiments.workdir import Workdir
from wfm.atomic import replacing

FIGURES = "figures.json"


def run_study(
    study: Study, workdir: Workdir, kept: Store, only: Mapping[str, Any] | None = None
) -> list[Record]:
    """The records of a study, which the workdir holds afterwards, with pictures and a report.

    What the store holds is not made again.
    """
    cells = study.cells(only)
    for number, cell in enumerate(cells):
        if len(cells) > 1:
            print(f"\n{text(cell.at)} ({number + 1} of {len(cells)})", flush=True)
        records.save(_file(workdir, cell), measure(cell, kept, workdir))
        jax.clear_caches()  # after 29 cells of two hidden layers no more code could be loaded
    # Those of earlier calls, too, in the order of the study.
    files = [_file(workdir, cell) for cell in study.cells(only, every=True)]
    found = [record for file in files if file.exists() for record in records.read(file)]
    records.save(workdir / "records.json", found)
    report.write(study, found, workdir)
    return found


def _file(workdir: Workdir, cell: Cell) -> Path:
    return workdir / "cells" / f"{folder_of(cell.at)}.json"


def check(cells: Sequence[Cell], kept: Store) -> None:
    """Refuse wrong settings of any cell before hours of work."""
    for cell in cells:
        run = Run(cell.config, kept)
        for name in cell.measures:
            m: Measure = choose(MEASURES, "measures", name)
            if m.stage:
                _ = run.parts
            m.check(run)


def measure(cell: Cell, kept: Store, workdir: Workdir) -> list[Record]:
    """The records of one cell, and of what its stages took; its pictures go to the workdir."""
    run, found, entries = Run(cell.config, kept), [], []
    figures = workdir / "figures" / folder_of(cell.at)
    for name in cell.measures:
        reads = {"measure": name} | MEASURES[name].reads(run)
        for point in MEASURES[name].points(run):
            entry = kept.get(name, reads | {"at": dict(point.at)}, partial(_make, point))
            entries.append(entry)
            found += _records(entry, cell, point)
            for picture in sorted(entry.glob("*.png")):
                figures.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(picture, figures / picture.name)
    return found + list(_costs(run.entries(), entries, cell))


def _make(point: Point, folder: Path) -> None:
    figures = point.make(folder)
    plain = {m: f if isinstance(f, Figure) else Figure(float(f)) for m, f in figures.items()}
    with replacing(folder / FIGURES) as partial_:
        partial_.write_text(json.dumps(plain))


def _records(entry: Path, cell: Cell, point: Point) -> Iterator[Record]:
    about = store.about(entry)
    if both := cell.at.keys() & point.at.keys():
        raise UsageError(f"rows of the study have the coordinate {min(both)!r}, as the measure has")
    at, source = {**cell.at, **point.at}, Source(**about["source"])
    for metric, figure in json.loads((entry / FIGURES).read_text()).items():
        yield Record(at, metric, *figure, seconds=about["seconds"], source=source)


def _costs(stages: Sequence[Path], points: Sequence[Path], cell: Cell) -> Iterator[Record]:
    """Seconds and memory of each stage, and seconds of all measuring together."""
    for entry in stages:
        about = store.about(entry)
        at, source = {**cell.at, "stage": about["stage"]}, Source(**about["source"])
        yield Record(at, "seconds", about["seconds"], source=source)
        yield Record(at, "peak_mb", about["peak_mb"], source=source)
    abouts = list(map(store.about, points))
    at, source = {**cell.at, "stage": "measure"}, Source(**abouts[0]["source"])
    yield Record(at, "seconds", sum(a["seconds"] for a in abouts), source=source)
    yield Record(at, "peak_mb", max(a["peak_mb"] for a in abouts), source=source)


def text(at: Mapping[str, Any]) -> str:
    """Coordinates as a person reads them."""
    return ", ".join(f"{name} {value}" for name, value in at.items())
