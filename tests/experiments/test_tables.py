"""Tables of flows, barriers and their page, small."""

import json

import pytest

from configs import tables as configs
from experiments import barriers, tables
from experiments.publish.page import MARK
from experiments.publish.tables import publish

ROWS = ("flat_mlp_aligned", "geometric_aligned_ot")


@pytest.mark.slow
def test_a_small_table_becomes_a_page_and_is_not_made_twice(tmp_path):
    config = configs.get_config("wine")
    base = config.base
    base.hidden = (4,)
    base.zoo.update({"networks": 6, "epochs": 6, "burn_in": 1, "stride": 4, "held_out": 0.34})
    base.field.update({"width": 8, "depth": 1})
    base.training.update({"steps": 4, "report_every": 2})
    base.sampling.update({"networks": 3, "steps": 2})
    config.rows = {name: config.rows[name] for name in ROWS}
    config.rows.flat_mlp_aligned.field.width = 8
    config.seeds, config.barriers.networks = (0, 1), 4
    run = tmp_path / "wine"
    tables.run(config, str(run))
    results = json.loads((run / "results.json").read_text())
    assert results["rows"].keys() == {*ROWS, "zoo"}
    for row in ROWS:
        cells = [json.loads((run / row / f"seed{s}" / "results.json").read_text()) for s in (0, 1)]
        means = [cell["samples"]["loss"]["mean"] for cell in cells]
        assert results["rows"][row]["loss"]["value"] == pytest.approx(sum(means) / 2)
        assert results["rows"][row]["loss"]["seed_std"] == pytest.approx(
            abs(means[0] - means[1]) / 2**0.5  # the divisor is n - 1
        )
        assert means[0] != means[1]
    zoos = {(run / row / "seed0" / "zoo" / "zoo.safetensors").read_bytes() for row in ROWS}
    assert len(zoos) == 1  # shared, so that rows differ in their flow alone

    cell = run / ROWS[0] / "seed0" / "results.json"
    before = cell.stat().st_mtime_ns
    (run / "results.json").unlink()
    tables.run(config, str(run))
    assert cell.stat().st_mtime_ns == before

    page = tmp_path / "results" / "small.md"
    publish(page.with_suffix(""), [run])
    text = page.read_text()
    page.write_text(text.replace(MARK, f"Kept.\n\n{MARK}").replace("## Wine", "## Gone"))
    publish(page.with_suffix(""), [run])
    text = page.read_text()
    assert "Kept." in text
    assert "## Wine" in text
    assert "## Gone" not in text
    assert "| Geometric |  |  | 0." in text
    assert (page.parent / "small-wine.png").stat().st_size > 0
    records = json.loads(page.with_suffix(".json").read_text())
    assert {r["metric"] for r in records} >= {"accuracy", "loss", "novelty", "line", "geodesic"}
    assert results["barriers"].keys() >= {"none", *barriers.SHOWN}


@pytest.mark.parametrize("variant", ["breast_cancer", "digits", "wine", "published"])
def test_presets_name_nine_flows(variant):
    rows = configs.get_config(variant).rows
    flows = [name for name in rows if not name.startswith("flat")]
    assert len(flows) == 9
    assert sum(rows[name].flow.get("coupling") == "ot" for name in flows) == 3
