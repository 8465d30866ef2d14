"""What `make kills` does, once; it itself checks what is left and what is lost."""

import pytest

from tests.killed_run import STAGES
from tests.kills import main


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path):
    kills = main(str(tmp_path), "1")
    assert kills.total() == 1
    assert kills.keys() <= {"starting", *STAGES}
