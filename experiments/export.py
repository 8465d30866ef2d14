"""The flow of a finished run as a file for others, with a model card."""

import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

from experiments import records
from experiments.command import Config, flat
from experiments.pages import Page, body, folder_of, without_pictures
from experiments.records import Record
from experiments.runner import RECORDS
from experiments.stages import Run
from experiments.store import Store, file_digest
from experiments.study import Cell, Study, text
from experiments.workdir import CELLS
from wfm.atomic import replacing
from wfm.errors import UserError

FLOW, CARD = "flow.zip", "README.md"
TEMPLATE = Path(__file__).with_name("card.md")


def export(study: Study, workdir: Path, kept: Store, only: dict, to: Path) -> None:
    """Write the flow of the one cell at `only`, and a card with the figures of its run."""
    cells = study.cells(only)
    if len(cells) > 1:
        raise UserError(
            f"{len(cells)} flows are at {text(only)}, such as {text(cells[0].at)}; choose one with "
            "--only=KEY=VALUE"
        )
    (cell,) = cells
    found = records.read(workdir / CELLS / folder_of(cell.at) / RECORDS)
    run = Run(cell.config, kept)
    _check(run)
    to.mkdir(parents=True, exist_ok=True)
    run.trained.flow.save(to / FLOW, about=run.about)
    with replacing(to / CARD) as partial:
        partial.write_text(card(study, cell, run, found, file_digest(to / FLOW)))


def _check(run: Run) -> None:
    if not run.store.place("train", run.reads["train"]).is_dir():
        raise UserError(
            f"{run.store.folder} does not hold the flow of this run; give the --store and the "
            "--config options that it was run with"
        )
    c = run.config.sampling
    if c.guidance or c.noise:
        raise UserError(
            "the figures of this run are of guided or noisy samples, which a flow does not draw by "
            "itself; export a run with sampling.guidance=0 and sampling.noise=0"
        )


def card(study: Study, cell: Cell, run: Run, found: Sequence[Record], sha256: str) -> str:
    """The model card: what the flow is, how it is used, its figures, settings and limits."""
    c, parts = run.config, run.parts
    return Template(TEMPLATE.read_text()).substitute(
        task=c.task,
        name=c.task.replace("_", " "),
        split=c.split,
        network=parts.known.code,
        weights=f"{parts.network.n_weights:,}",
        trajectories=c.zoo.networks,
        kind=c.flow.kind,
        align=json.dumps(c.flow.align),
        form=run.about["form"],
        steps=c.sampling.steps,
        solver=c.sampling.solver,
        grid=c.sampling.grid,
        figures=without_pictures(body(Page(study, found, Path(CARD)))),
        settings=_settings(c),
        sha256=sha256,
    )


def _settings(config: Config) -> str:
    """All keys of the config, one in each line."""
    return "\n".join(f"{key} = {json.dumps(v)}" for key, v in flat(config.to_dict()).items())
