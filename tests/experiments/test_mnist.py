"""The experiment on images, on a tiny data set."""

import json
import re

import numpy as np
import pytest

from experiments import mnist
from experiments.command import main
from tests.experiments.test_uci import SMALL
from tests.tasks.idx_files import write_images
from wfm.tasks.images import FOLDER

TINY = ["--config.task=mnist", "--config.hidden=(3,)", "--config.zoo.batch_size=10"]
TINY = [*SMALL, *TINY, "--config.zoo.learning_rate=0.01", "--config.averages=(1, 2, 4)"]


def command(workdir, *more):
    main(mnist.run, ["x", "--config=configs/mnist.py", f"--workdir={workdir}", *TINY, *more])


@pytest.mark.slow
def test_a_run_writes_what_networks_predict_together(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    write_images(tmp_path / "mnist", (4, 4), classes=2)
    command(tmp_path / "run")
    out = capsys.readouterr().out
    together = json.loads((tmp_path / "run" / "results.json").read_text())["together"]
    for found in together.values():
        assert found["average"].keys() == {"1", "2", "4"}
        for metric, value in found["average"]["4"].items():
            assert 0 <= value < np.inf, metric
        # Probabilities are averaged, and both scores are convex in them.
        assert found["average"]["4"]["brier"] <= found["single"]["brier"]
        assert found["average"]["4"]["nll"] <= found["single"]["nll"] + 1e-6  # rounding
        assert 0 <= found["divergence"]["mean"] <= np.log(2)
    assert re.search(r"samples, average of 4 +0\.\d{4}", out)
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    command(tmp_path / "run")
    assert capsys.readouterr().out.splitlines()[-1] == out.splitlines()[-1]


@pytest.mark.parametrize("numbers", ["(1, 64)", "(0, 2)"])
def test_more_networks_than_there_are(numbers, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    write_images(tmp_path / "mnist", (4, 4), classes=2)
    refused = r"averages (asks for \d to \d+ networks, of 5 samples and 6|.*must be at least 1)"
    with pytest.raises(SystemExit, match=refused):
        command(tmp_path / "run", f"--config.averages={numbers}")
    assert not (tmp_path / "run").exists()


def test_kernels_are_laid_out_as_squares():
    kernel = np.arange(8.0).reshape(4, 2)  # two neurons that see 2 by 2 pixels
    picture = mnist.mosaic([kernel, 2 * kernel])
    assert picture.shape == (8, 8)
    np.testing.assert_allclose(picture[1:3, 1:3], np.array([[0, 2], [4, 6]]) / 7)
    np.testing.assert_allclose(picture[5:7, 5:7], np.array([[1, 3], [5, 7]]) / 7)
    assert np.isnan(picture[0]).all()
