"""Ablations and their page, small."""

import functools
import json

import pytest

from configs import ablation as configs
from experiments import ablation
from experiments.command import UsageError
from experiments.publish import mnist as mnist_page
from experiments.publish.ablation import publish
from tests.experiments.tiny import make_tiny, write_tasks
from wfm.tasks import load_task


@pytest.mark.slow
def test_rows_that_only_sample_otherwise_share_a_flow_and_become_a_page(tmp_path, monkeypatch):
    write_tasks(tmp_path, monkeypatch, "mnist")
    for module in (ablation, mnist_page):
        monkeypatch.setattr(module, "AVERAGED", 4)
    config = configs.get_config("tried")
    make_tiny(config.base)
    config.rows = {
        "base": {},
        "guided": {"sampling": {"guidance": 0.5, "guidance_rate": "falling"}},
        "wide": {"field": {"width": 9}},
    }
    config.expected = {"base": "the start", "guided": "better", "wide": "more | of it"}
    run = tmp_path / "tried"
    ablation.run(config, str(run))
    rows = json.loads((run / "results.json").read_text())["rows"]
    cells = {
        row: json.loads((run / row / "seed0" / "results.json").read_text()) for row in config.rows
    }
    for row, found in rows.items():
        assert found["samples"]["accuracy"]["value"] == cells[row]["samples"]["accuracy"]["mean"]
        average = cells[row]["together"]["samples"]["average"]["4"]
        assert found["samples"]["average"]["value"] == average["accuracy"]
        assert found["zoo"] == rows["base"]["zoo"]
    steps = {
        row: (run / row / "seed0" / "metrics.jsonl").read_text().count('"loss"') for row in rows
    }
    assert steps["base"] == steps["wide"] > 0
    assert steps["guided"] == 0  # drawn from the flow of `base`
    assert rows["guided"]["samples"]["loss"] != rows["base"]["samples"]["loss"]
    assert rows["wide"]["run"]["parameters"]["value"] > rows["base"]["run"]["parameters"]["value"]

    page = tmp_path / "page"
    publish(page, [run])
    text = page.with_suffix(".md").read_text()
    for row, expected in config.expected.items():
        assert f"| {row} | {expected.replace('|', '&#124;')} |" in text
    assert page.with_suffix(".png").stat().st_size > 0
    records = json.loads(page.with_suffix(".json").read_text())
    assert {r["row"] for r in records} >= {"base, samples", "base, zoo", "guided, samples"}
    assert_page_of_mnist(tmp_path, run)


def assert_page_of_mnist(folder, run):
    """The same run under the names of other studies, on the page beside published figures."""
    names = {
        "flows": ("Geometric", "Normalized + OT", "Euclidean"),
        "widths": ("16 features", "8 features", "128 features"),
    }
    rows = json.loads((run / "results.json").read_text())["rows"]
    for study, new in names.items():
        (folder / study).mkdir()
        for file, key in (("results", "rows"), ("config", "expected")):
            content = json.loads((run / f"{file}.json").read_text())
            content[key] = dict(zip(new, content[key].values(), strict=True))
            (folder / study / f"{file}.json").write_text(json.dumps(content))
    page = folder / "mnist"
    (folder / "headline").symlink_to(run)
    mnist_page.publish(page, [folder / "headline", folder / "flows", folder / "widths"])
    text, base = page.with_suffix(".md").read_text(), rows["base"]["samples"]
    quality = f"{base['accuracy']['value']:.3f} ± {base['accuracy']['std']:.3f}"
    ours = f"{quality} / {base['loss']['value']:.3f}"
    assert f"| Geometric | *0.737 ± 0.070 / 1.457* | {ours} |" in text
    assert "| Euclidean + OT | *0.757 ± 0.077 / 0.753* |  |" in text
    together = json.loads((run / "guided" / "seed0" / "results.json").read_text())["together"]
    assert (
        f"| guided, average of 4 | {together['samples']['average']['4']['accuracy']:.4f} " in text
    )
    assert f"| guided | {rows['guided']['samples']['accuracy']['value']:.4f} | " in text
    assert "| baseline: neurons of two | " in text
    records = json.loads(page.with_suffix(".json").read_text())
    (found,) = (r for r in records if (r["row"], r["metric"]) == ("Geometric, samples", "loss"))
    assert (found["published"], found["value"]) == (1.457, base["loss"]["value"])
    for name in ("drawn-filters", "guided-averages", "growth"):
        assert page.with_name(f"mnist-{name}.png").stat().st_size > 0


@pytest.mark.parametrize("variant", configs.STUDIES)
def test_every_row_of_a_preset_is_a_possible_experiment_with_an_expectation(
    variant, tmp_path, monkeypatch
):
    official_number_of_images(tmp_path, monkeypatch)
    config = configs.get_config(variant)
    assert config.rows.keys() == config.expected.keys()
    for cell in ablation.cells_of(config).values():
        ablation.check(cell)


def official_number_of_images(folder, monkeypatch):
    """As many examples as MNIST has, since a schedule must leave a snapshot."""
    monkeypatch.setattr("tests.tasks.idx_files.SIZES", {"train": 60_000, "test": 10_000})
    monkeypatch.setattr("experiments.experiment.load_task", functools.cache(load_task))
    write_tasks(folder, monkeypatch, "mnist")


def test_rows_without_the_average_they_are_compared_by_are_refused(tmp_path, monkeypatch):
    official_number_of_images(tmp_path, monkeypatch)
    config = configs.get_config("tried")
    config.base.averages = (1, 2)
    with pytest.raises(UsageError, match="compared by the average of 32 networks: add 32"):
        ablation.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
