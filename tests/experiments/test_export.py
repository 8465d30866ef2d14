"""A flow that leaves its run: one file and a card, from which a stranger gets networks."""

import hashlib
import re

import pytest
import yaml

from experiments import __main__ as program
from experiments import records
from tests.experiments.tiny import QUICK, one
from wfm.flows import about

STUDY = ["demo", *QUICK]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a finished run, and that of its flow."""
    folder, to = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("flow") / "new"
    program.main(["run", *STUDY, f"--workdir={folder}"])
    program.main(["export", *STUDY, f"--workdir={folder}", f"--to={to}"])
    return folder, to


@pytest.mark.slow
def test_the_card_leads_from_the_file_to_networks(exported, monkeypatch, capsys):
    _, to = exported
    assert sorted(path.name for path in to.iterdir()) == ["README.md", "flow.zip"]
    card = (to / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(to)
    namespace: dict = {}
    for block in blocks:
        exec(block, namespace)
    assert 0 <= float(capsys.readouterr().out) <= 1
    assert {name: a.shape for name, a in namespace["new"].items()} == {
        "dense1.kernel": (10, 4, 6),
        "dense1.bias": (10, 6),
        "dense2.kernel": (10, 6, 3),
        "dense2.bias": (10, 3),
    }
    said = about("flow.zip")
    assert eval(said["form"], namespace) == namespace["form"]
    namespace["form"].spec.check(said["reference"])


@pytest.mark.slow
def test_the_card_has_the_figures_of_the_run(exported):
    folder, to = exported
    card = (to / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "apache-2.0"
    found = records.read(folder / "records.json")
    for name in ("samples", "noise", "averages", "crossed"):
        accuracy = one(found, "accuracy", set=name)
        assert f"| {accuracy.value:.3f} ± {accuracy.std:.3f} |" in text
    assert "![" not in text and "$" not in text
    sha256 = hashlib.sha256((to / "flow.zip").read_bytes()).hexdigest()
    assert text.count(sha256) == 2


@pytest.mark.slow
def test_the_same_run_gives_the_same_file(exported, tmp_path):
    folder, to = exported
    program.main(["export", *STUDY, f"--workdir={folder}", f"--to={tmp_path}"])
    assert (tmp_path / "flow.zip").read_bytes() == (to / "flow.zip").read_bytes()
    assert (to / "flow.zip").stat().st_size < 5_000_000


@pytest.mark.slow
def test_the_flow_must_be_there(exported, tmp_path):
    folder, _ = exported
    with pytest.raises(SystemExit, match=r"does not hold the flow of this run; give the --store"):
        program.main(
            ["export", *STUDY, f"--workdir={folder}", f"--to={tmp_path}", f"--store={tmp_path}"]
        )
    guided = "--config.sampling.guidance=1.0"
    with pytest.raises(SystemExit, match=r"guided or noisy samples, which a flow does not draw"):
        program.main(["export", *STUDY, guided, f"--workdir={folder}", f"--to={tmp_path}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--workdir={0}", "--to={0}/to"], "there are no records at .*run the study first"),
        (["demo", "--workdir={0}"], "give --to=DIR, the folder for the flow"),
        (["demo", "--to={0}"], "give --workdir=DIR, the folder of the run"),
        (["mnist", "--workdir={0}", "--to={0}/to"], r"\d+ flows are at .*--only=KEY=VALUE"),
    ],
)
def test_what_cannot_be_exported_is_named_before_any_work(arguments, message, tmp_path):
    filled = [argument.format(tmp_path) for argument in arguments]
    with pytest.raises(SystemExit, match=message) as error:
        program.main(["export", *filled])
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
