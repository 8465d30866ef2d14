"""The commands of docs/command.md run as they stand there."""

import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "command.md"


@pytest.mark.slow
def test_commands_on_the_page_run(tmp_path, monkeypatch, wfm):
    pytest.importorskip("torch")
    pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text().replace("--steps 300", "--steps 2")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, PAGE, "exec"), {})
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    said = {line: wfm(*shlex.split(line)[1:]) for line in lines}
    assert len(lines) == 8 and "32 usable in 32 trajectories, 0 bad" in said[lines[0]]
    (own,) = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    Path("mine.py").write_text(own)
    code = "wfm inspect nets --network mine.py:network"
    wfm(*shlex.split(code)[1:], status=2)  # the files have other names, and so it says


def test_help_is_on_the_page():
    from wfm.command.line import COMMANDS

    page = PAGE.read_text()
    assert all(f"| `wfm {name} " in page for name in COMMANDS)
