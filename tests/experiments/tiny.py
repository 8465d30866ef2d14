"""Studies, made tiny: seconds instead of minutes."""

import dataclasses
import re

import numpy as np

from experiments import records
from experiments.build import load_once
from experiments.pages import Page, body
from experiments.runner import check, run_study
from experiments.store import Store
from experiments.study import load
from experiments.workdir import Workdir
from tests.tasks import idx_files
from wfm.tasks.images import FOLDER

# A run of the demo as a user would write it.
SMALL = [
    "--config.task=iris",
    "--config.network=mlp:6",
    "--config.zoo.networks=8",
    "--config.zoo.epochs=4",
    "--config.zoo.burn_in=1",
    "--config.zoo.stride=2",
    "--config.zoo.held_out=0.25",
    "--config.field.width=8",
    "--config.field.depth=1",
    "--config.training.steps=6",
    "--config.training.report_every=3",
    "--config.sampling.networks=5",
    "--config.sampling.steps=3",
]
QUICK = [*SMALL, "--config.field.kind=mlp", "--config.training.optimizer=adam"]


def make_tiny(base, kind="mlp"):
    """Change the config of a study of weights in place."""
    base.network = "mlp:3"
    base.zoo.update({"networks": 8, "epochs": 4, "burn_in": 1, "stride": 2, "held_out": 0.25})
    base.zoo.update({"batch_size": 10, "learning_rate": 0.01, "prior_std": 0.5})
    base.field.update({"kind": kind, "width": 8, "depth": 1})
    base.training.update({"optimizer": "adam", "steps": 6, "report_every": 3})
    base.sampling.update({"networks": 5, "steps": 3, "guidance_batch": 10})


def of_tiny(name, kind="mlp", rows=None, seeds=(), **base):
    """A study of `configs/` with a tiny base, and other rows if they are given."""
    study = load(name)
    config = study.base.copy_and_resolve_references()
    make_tiny(config, kind)
    config.update(base)
    return dataclasses.replace(study, base=config, rows=rows or study.rows, seeds=seeds)


def write_tasks(folder, monkeypatch, *names, classes=2, official=False):
    """Files of random images for tasks, found through the environment.

    `official`: as many examples as MNIST has, since a schedule must leave a snapshot.
    """
    monkeypatch.setenv(FOLDER, str(folder))
    if official:
        monkeypatch.setattr(idx_files, "SIZES", {"train": 60_000, "test": 10_000})
    for name in names:
        idx_files.write_images(folder / name, (4, 4), classes=classes)
    load_once.cache_clear()


def check_ways(points):
    """All ways of tiny transfers are there at equal gradients; the places of the points."""
    at = {(p.at["part"], p.at["way"], p.at["width"], p.at["gradients"]) for p in points}
    starts = {"from Gaussian", "from He", "from samples"}
    for part, width, more in (
        ("task", 3, {"guided at x_t", "guided at end_point", "from trained networks"}),
        ("width", 5, {"guided at end_point", "from samples side by side"}),
    ):
        for n in (2, 4):
            ways = {way for p, way, w, g in at if (p, w, g) == (part, width, n)}
            assert ways == starts | more
    return at


def run(study, workdir, store):
    """The records of a study, and its page; all of its figures are numbers."""
    kept = Store(store)
    check(study.cells(), kept)
    found = run_study(study, Workdir(workdir, study), kept)
    assert all(np.isfinite([x.value, x.std or 0, x.error or 0]).all() for x in found)
    page = Page(study, found, workdir / "page" / study.name, workdir / "cells")
    page.target.parent.mkdir()
    for block in study.page:
        block.draw(page)
    text = body(page)
    for name in re.findall(r"\]\((.*\.png)\)", text):
        assert (page.target.parent / name).stat().st_size > 0, name
    return found, text


def empty(text):
    """Cells of the tables of a page that say nothing, by row and column."""
    found, heads = [], []
    for before, line in zip(["", *text.splitlines()], text.splitlines(), strict=False):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|---"):
            heads = [cell.strip() for cell in before.strip("|").split("|")]
        elif line.startswith("|") and heads:
            found += [(cells[0], h) for h, cell in zip(heads, cells, strict=True) if not cell]
        elif not line.startswith("|"):
            heads = []
    return found


def times(store, *stages):
    """When entries of the store were made."""
    return {p: p.stat().st_mtime_ns for s in stages for p in store.glob(f"{s}/*/entry.json")}


def one(found, metric, **at):
    (record,) = records.where(found, {"metric": metric, **at})
    return record
