"""Studies of networks of all kinds: from the zoo to guided samples, judged, and with densities."""

import jax
import numpy as np
import pytest

from configs.base import mnist
from configs.networks import KINDS
from experiments.build import load_once
from experiments.measures.barriers import SETS
from experiments.stages import Run
from experiments.store import Store
from experiments.study import Row
from tests.experiments.tiny import empty, make_tiny, of_tiny, one, run
from tests.tasks import idx_files
from wfm.evaluation import evaluate
from wfm.flows import Hutchinson, Integrator
from wfm.tasks.images import FOLDER

pytestmark = pytest.mark.slow

# With the kind of field, which for the first is that of studies; others compile faster.
TEXTS = {
    "vit:8,4,2,1,3": "transformer",
    "resnet:8,2,batch_norm=False": "mlp",
    "mlp:3,layer_norm=True": "mlp",
    "siren:3": "mlp",
    "lenet5:(2,2,3,3)": "mlp",
}
INITIAL = {"siren": "siren"}


@pytest.fixture(scope="module", autouse=True)
def pictures(tmp_path_factory):
    """Images of 16 by 16 pixels in place of MNIST and its like."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("data")
        patch.setenv(FOLDER, str(folder))
        for name in ("mnist", "fashion_mnist"):
            idx_files.write_images(folder / name, (16, 16), classes=2)
        load_once.cache_clear()
        yield
    load_once.cache_clear()


@pytest.mark.parametrize("text", TEXTS)
def test_a_network_from_its_zoo_to_guided_samples_and_their_density(text, tmp_path):
    config = mnist()
    make_tiny(config, TEXTS[text])
    start = INITIAL.get(text.partition(":")[0], "he")
    config.update({"network": text, "training": {"steps": 2, "report_every": 2}})
    config.zoo.update({"initial": start, "networks": 6, "stride": 1})
    config.sampling.update({"networks": 2, "steps": 2, "guidance": 0.1})
    mine = Run(config, Store(tmp_path))
    figures = evaluate(mine.parts.network, mine.samples, mine.parts.task.test)
    assert np.isfinite(figures["loss"]).all()
    point = mine.parts.form.encode(jax.tree.map(lambda a: a[0], mine.samples))
    how = Integrator(2), Hutchinson(), jax.random.key(0)
    assert np.isfinite(mine.trained.flow.log_prob(point, *how))


def test_the_study_of_networks_has_all_flows_beside_their_rivals(tmp_path, store):
    problem = {"network": "CNN", "task": "mnist"}
    change = {"network": "cnn:2", "task": "mnist", "zoo": {"stride": 1}}
    rows = tuple(
        Row(problem | {"flow": kind}, change | {"flow": {"kind": kind.lower()}}) for kind in KINDS
    )
    found, text = run(of_tiny("networks", rows=rows), tmp_path, store)
    assert "## CNN, mnist" in text
    for kind in KINDS:
        assert f"| samples, {kind} | " in text
    for of in SETS:
        assert one(found, "aligned_barrier", set=of, flow="Geometric").error >= 0
    lines = [line for line in text.splitlines() if line.startswith("| baseline: Gaussian")]
    assert len(lines) == 1
    missing = {row for row, column in empty(text) if column in ("accuracy", "average of 32")}
    assert not missing
