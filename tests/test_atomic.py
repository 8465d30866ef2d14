"""Files and folders take their places as a whole, or not at all."""

import pytest

from wfm.atomic import replacing, sweep


def write_file(path, text):
    path.write_text(text)


def write_folder(path, text):
    path.mkdir()
    (path / "a").write_text(text)
    (path / f"only {text}").touch()


def read(path):
    return (path / "a" if path.is_dir() else path).read_text()


kinds = pytest.mark.parametrize("write", [write_file, write_folder])


@kinds
def test_new_takes_the_place_of_old(tmp_path, write):
    path = tmp_path / "new" / "x.txt"
    for text in ("old", "new"):
        with replacing(path) as partial:
            write(partial, text)
            assert partial.name == path.name
            assert not path.exists() or read(path) == "old"
        assert read(path) == text
        assert list(path.parent.iterdir()) == [path]
    assert not (path.is_dir() and (path / "only old").exists())


@kinds
def test_an_error_leaves_what_was_there(tmp_path, write):
    path = tmp_path / "x"
    write(path, "old")
    with pytest.raises(KeyError), replacing(path) as partial:
        write(partial, "new")
        raise KeyError
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing is written
    assert read(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_processes_do_not_meet(tmp_path):
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as other:
        assert one != other
        one.write_text("first")
        other.write_text("second")
    assert (tmp_path / "x").read_text() == "first"


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    (tmp_path / "below" / "x.abc.partial").mkdir(parents=True)
    (tmp_path / "x.abc.partial").mkdir()
    (tmp_path / "x").touch()
    sweep(tmp_path, "*")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["below", "x"]
    sweep(tmp_path)
    assert not list((tmp_path / "below").iterdir())
