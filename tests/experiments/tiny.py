"""Studies, made tiny: seconds instead of minutes."""

import dataclasses

from experiments.build import load_once
from experiments.study import load
from tests.tasks import idx_files
from wfm.tasks.images import FOLDER

# A run of the demo as a user would write it.
SMALL = [
    "--config.task=iris",
    "--config.hidden=(6,)",
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
    base.hidden = (3,)
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
