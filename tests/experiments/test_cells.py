"""What cells of a table share."""

from experiments.cells import _link


def test_a_second_name_for_the_same_which_another_study_may_have_made(tmp_path):
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "checkpoints" / "3" / "state").write_text("state")
    (tmp_path / "zoo").write_text("zoo")
    shared = tmp_path / "shared"
    for _ in range(2):
        _link(tmp_path / "checkpoints", shared / "checkpoints")
        _link(tmp_path / "zoo", shared / "zoo")
    assert {path.name for path in shared.iterdir()} == {"checkpoints", "zoo"}
    assert (shared / "checkpoints" / "3" / "state").read_text() == "state"
    assert (shared / "zoo").samefile(tmp_path / "zoo")
