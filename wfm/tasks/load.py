"""Data sets by name."""

from collections.abc import Callable
from functools import partial

from wfm.checks import check_count
from wfm.errors import UserError
from wfm.tasks.images import SOURCES, load_images, load_small_images
from wfm.tasks.tabular import TABLES, load_table
from wfm.tasks.task import Task

LAST_SPLIT = 2**32 - 1  # the largest seed of scikit-learn

TASKS: dict[str, Callable[[int], Task]] = {
    **{name: partial(load_table, name) for name in TABLES},
    **{name: partial(load_images, name) for name in SOURCES},
    **{f"{name}_8x8": partial(load_small_images, name) for name in SOURCES},
}


def load_task(name: str, split: int = 0) -> Task:
    """A data set by name, in fixed stratified splits, standardised.

    `split` numbers the random ways to divide it, so that no figure depends on one small test set.
    Mean and variance are those of the training split, so nothing leaks in from the others.
    """
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}; choose one of {', '.join(TASKS)}")
    check_count("split", split, least=0, most=LAST_SPLIT)
    return TASKS[name](split)
