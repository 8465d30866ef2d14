"""Equal rows of a data set lie in one split."""

import numpy as np
import pytest

from wfm.tasks import load_task
from wfm.tasks.tabular import TABLES, with_copies


@pytest.mark.parametrize("split", range(3))  # 0 and 1 would part iris's two equal rows
@pytest.mark.parametrize("name", TABLES)
def test_no_row_is_in_two_splits(name, split):
    task = load_task(name, split)
    seen, *others = (
        {tuple(r) for r in np.asarray(s.x)} for s in (task.train, task.validation, task.test)
    )
    assert not seen & others[0] and not (seen | others[0]) & others[1]


def test_a_copy_follows_its_first_and_sends_a_row_of_its_class_back():
    x = np.array([[1.0], [2.0], [3.0], [1.0], [5.0], [1.0]])
    y = np.array([0, 1, 0, 0, 0, 0])
    parts = np.array([0, 0, 0, 1, 1, 2])
    # Rows 3 and 5 equal row 0. Row 2 goes for the first of them; no other is left for the second.
    np.testing.assert_array_equal(with_copies(parts, x, y), [0, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(parts, [0, 0, 0, 1, 1, 2])


def test_nothing_changes_where_no_rows_are_equal():
    parts = np.array([2, 0, 1, 1])
    np.testing.assert_array_equal(with_copies(parts, np.eye(4), np.zeros(4, int)), parts)
