"""Running a study: cells, their measures, records, pictures, and a report."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments import records, report, store
from experiments.command import choose
from experiments.measures import MEASURES, Measure, Point
from experiments.memory import forget_programs
from experiments.pages import folder_of
from experiments.records import Figure, Record, Source
from experiments.stages import Run
from experiments.store import Store
from experiments.study import Cell, Study, text
from experiments.workdir import CELLS, Workdir
from wfm.atomic import replacing
from wfm.errors import UserError

FIGURES = "figures.json"
RECORDS = "records.json"
LEFT = ("*.png", "samples.safetensors", "trajectories", "flow")  # for those who look into a cell


def run_study(
    study: Study, workdir: Workdir, kept: Store, only: Mapping[str, Any] | None = None
) -> list[Record]:
    """Run a study and return its records; the workdir then holds them, pictures and a report.

    What the store already holds is not made again.
    """
    cells = study.cells(only)
    for number, cell in enumerate(cells):
        if len(cells) > 1:
            print(f"\n{text(cell.at)} ({number + 1} of {len(cells)})", flush=True)
        found = measure(cell, kept, folder(workdir, cell))
        records.save(folder(workdir, cell) / RECORDS, found)
        forget_programs()  # cells that differ in seed alone share them
    # Including records of earlier calls, in the order of the study.
    files = [folder(workdir, cell) / RECORDS for cell in study.cells(only, every=True)]
    found = [record for file in files if file.exists() for record in records.read(file)]
    if not found:
        raise UserError("no time is left to measure anything; give more --config.minutes")
    records.save(workdir / RECORDS, found)
    report.write(study, found, workdir)
    return found


def folder(workdir: Workdir, cell: Cell) -> Path:
    """The folder with the records, pictures, samples and flow of a cell."""
    return workdir / CELLS / folder_of(cell.at)


def check(cells: Sequence[Cell], kept: Store) -> None:
    """Refuse wrong settings of any cell, before hours of work."""
    for cell in cells:
        run = Run(cell.config, kept)
        for name in cell.measures:
            m: Measure = choose(MEASURES, "measures", name)
            if m.stage:
                _ = run.parts, run.reads
            m.check(run)
            both = {n for point in m.points(run) for n in point.at} & cell.at.keys()
            if both:
                raise UserError(
                    f"rows and the measure {name!r} both have a coordinate {min(both)!r}; rename "
                    "that of the rows"
                )


def measure(cell: Cell, kept: Store, place: Path) -> list[Record]:
    """The records of one cell and the costs of its stages; pictures and more go to `place`."""
    run, found, entries = Run(cell.config, kept), [], []
    for name in cell.measures:
        reads = {"measure": name} | MEASURES[name].reads(run)
        for point in MEASURES[name].points(run):
            entries.append(kept.get(name, reads | point.reads(), partial(_make, point)))
            found += _records(entries[-1], cell, point)
    if not entries:  # no time was left
        return []
    stages = run.entries() if any(MEASURES[name].stage for name in cell.measures) else []
    for entry in (*stages, *entries):
        for left in (path for pattern in LEFT for path in entry.glob(pattern)):
            _copy(left, place / left.name)
    return found + list(_costs(stages, entries, cell))


def _copy(old: Path, new: Path) -> None:
    with replacing(new) as partial_:
        shutil.copytree(old, partial_) if old.is_dir() else shutil.copyfile(old, partial_)


def _make(point: Point, folder: Path) -> None:
    figures = point.make(folder)
    plain = {m: f if isinstance(f, Figure) else Figure(float(f)) for m, f in figures.items()}
    with replacing(folder / FIGURES) as partial_:
        partial_.write_text(json.dumps(plain))


def _records(entry: Path, cell: Cell, point: Point) -> Iterator[Record]:
    about = store.about(entry)
    at, source = {**cell.at, **point.at}, Source(**about["source"])
    for metric, figure in json.loads((entry / FIGURES).read_text()).items():
        yield Record(at, metric, *figure, seconds=about["seconds"], source=source)


def _costs(stages: Sequence[Path], points: Sequence[Path], cell: Cell) -> Iterator[Record]:
    """Seconds and memory of each stage, and total seconds of measuring."""
    for entry in stages:
        about = store.about(entry)
        at, source = {**cell.at, "stage": about["stage"]}, Source(**about["source"])
        yield Record(at, "seconds", about["seconds"], source=source)
        yield Record(at, "peak_mb", about["peak_mb"], source=source)
    abouts = list(map(store.about, points))
    at, source = {**cell.at, "stage": "measure"}, Source(**abouts[0]["source"])
    yield Record(at, "seconds", sum(a["seconds"] for a in abouts), source=source)
    yield Record(at, "peak_mb", max(a["peak_mb"] for a in abouts), source=source)
