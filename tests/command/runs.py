"""Commands run in this process, and files for them."""

import pytest

from wfm.command import main


@pytest.fixture
def wfm(capsys, as_in_use):
    """A function that runs a command, and gives what it printed; it must succeed."""

    def run(*argv, status=0):
        assert main([str(a) for a in argv]) == status, capsys.readouterr().err
        said = capsys.readouterr()
        return said.out if not status else said.err

    return run


@pytest.fixture
def refused(wfm):
    """A function that runs a command which is refused in one sentence, and gives that."""

    def run(*argv):
        said = wfm(*argv, status=2)
        *notes, last = said.strip().splitlines()
        assert last.startswith("error: ") and "Traceback" not in said
        assert all(line.startswith(("note: ", "warning: ")) for line in notes)
        return last

    return run
