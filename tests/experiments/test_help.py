"""`--help`, and the memory that a run is told to need."""

import importlib
import re

import pytest

from configs import uci as configs
from experiments import command, gaussian, memory, uci

EXPERIMENTS = (
    "ablation",
    "barriers",
    "bench.__main__",
    "gaussian",
    "manifolds",
    "mnist",
    "path_errors",
    "steps",
    "tables",
    "transfer",
    "uci",
)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_tells_what_can_be_set(name, capsys):
    module = importlib.import_module(f"experiments.{name}")
    command.main(module.run, [name, "--help"])
    text = capsys.readouterr().out
    about = module.__doc__ or ""
    assert text.startswith(about.split("\n")[0])
    assert "--workdir=DIR" in text
    named = text.split("Keys and values of ")[1].split(".py")[0]
    assert f"--config={named}.py" in about
    assert len(re.findall(r"^  --config\.[\w.]+=\S+", text, re.MULTILINE)) > 5


def test_help_shows_the_config_that_is_asked_for(capsys):
    command.main(uci.run, ["uci", "--config=configs/uci.py:euclidean", "-h"])
    text = capsys.readouterr().out
    assert re.search(r"--config\.zoo\.held_out=0\.15 +share of trajectories that the flow", text)
    assert re.search(r"--config\.flow\.kind=euclidean$", text, re.MULTILINE)
    assert "--config.hidden='(16, 16)'" in text
    with pytest.raises(SystemExit, match=r"error: .*none\.py"):
        command.main(uci.run, ["uci", "--config=configs/none.py", "--help"])


def test_memory_is_counted_from_below():
    config = configs.get_config()
    needed = memory.least(config, n_weights=10, snapshots=3)
    assert needed["the zoo"] == 4 * 10 * 100 * (2 * 3 + 1)
    assert needed["100 samples"] == 4 * 10 * 100
    assert memory.machine() > 1e8
    with pytest.raises(
        SystemExit, match=r"needs at least [\d,]+ GB of memory, most of it for \d+ "
    ):
        arguments = ["--config=configs/gaussian.py", "--config.widths=(1000000, 1000000)"]
        command.main(gaussian.run, ["gaussian", *arguments, "--workdir=unused"])
