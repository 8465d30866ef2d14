"""`wfm` itself: help, unknown commands, and how it ends."""

import subprocess
import sys

import pytest

from wfm.command import main
from wfm.command.line import COMMANDS


def test_help_names_every_command_with_an_example(wfm):
    for said in (wfm("--help"), wfm()):
        assert all(f"wfm {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert f"\n  wfm {command} " in said and "options:" in said


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["lern"], "there is no command 'lern'; choose one of inspect"),
        (["inspect"], "the following arguments are required: path; `wfm inspect --help` tells"),
        (["inspect", "a", "b"], "unrecognized arguments: b"),
        (["sample", "flow.zip", "--out", "x", "-n", "0"], "must be a whole number above 0"),
        (
            ["sample", "flow.zip", "--out", "x", "--seed", "-1"],
            "must be a whole number up to 4294967295",
        ),
        (["sample", "flow.zip", "--out", "x", "--format", "onnx"], "invalid choice: 'onnx'"),
        (["sample", "no.zip", "--out", "x"], "there is no no.zip; check the path"),
        (["evaluate", "nets", "--task", "irs"], "unknown task 'irs'; choose one of"),
        (["evaluate", "nets", "--task", "iris"], "say by --network what the networks of nets are"),
        (["align", "no", "--network", "mlp:4,3", "--out", "x"], "there is no no; check the path"),
        (["learn", "no", "--network", "mlp:4,3", "--out", "x"], "there is no no; check the path"),
        (["convert", "no.pt", "x.npz"], "there is no no.pt; check the path"),
        (["inspect", "a" * 300], "File name too long"),
        (["inspect", "no.pt"], "there is no no.pt; check the path"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(argv, what, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert what in refused(*argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["convert", "align", "learn", "sample"])
def test_nothing_is_overwritten(command, refused, tmp_path):
    taken = tmp_path / "taken.zip"
    taken.write_text("mine")
    network = () if command == "sample" else ("--network", "mlp:4,3")
    out = (taken,) if command == "convert" else ("--out", taken)
    assert "is there and not empty" in refused(command, tmp_path / "a", *out, *network)
    assert taken.read_text() == "mine"


def test_help_does_not_wait_for_jax():
    code = (
        "from wfm.command import main; main(['--help']); import sys; sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
