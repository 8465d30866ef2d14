"""What is refused on purpose has one class, so that everything else keeps its traceback."""

import ast
from pathlib import Path

import pytest

import wfm
from wfm.errors import MissingFile, UserError
from wfm.training import Diverged
from wfm.weights import load_weights, mlp

FILES = sorted((Path(__file__).parent.parent / "wfm").rglob("*.py"))


def raised(path):
    """The names of the classes that a file raises."""
    nodes = (n.exc for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Raise))
    made = (n.func if isinstance(n, ast.Call) else n for n in nodes)
    return {n.id for n in made if isinstance(n, ast.Name)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FILES[0].parent)))
def test_refusals_are_user_errors(path):
    assert not raised(path) & {"ValueError", "FileNotFoundError", "RuntimeError"}


def test_user_errors_are_caught_as_before(tmp_path):
    assert wfm.UserError is UserError
    for error in (ValueError, UserError):
        with pytest.raises(error, match="input and output widths"):
            mlp(3)
    for error in (FileNotFoundError, UserError, MissingFile):
        with pytest.raises(error, match=r"^no weights at .*absent; check the path$"):
            load_weights(tmp_path / "absent")
    assert issubclass(Diverged, UserError)
    assert issubclass(Diverged, RuntimeError)
