"""Published pages are what their records say."""

import json
from pathlib import Path

import pytest

from experiments import records
from experiments.pages import MARK, Page, body
from experiments.study import config_module, load, names

RESULTS = Path(__file__).parent.parent.parent / "docs" / "results"
STUDIES = {}
for name in names():
    for variant in ("", *getattr(config_module(name), "VARIANTS", ())):
        study = load(f"{name}:{variant}" if variant else name)
        STUDIES[study.name] = study  # the last variant of a name has most to show
FILES = sorted(RESULTS.glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_page_is_what_its_records_say(file):
    if not isinstance(json.loads(file.read_text()), dict):
        pytest.skip("records of the old format")
    study = STUDIES[file.stem]
    by_hand, generated = file.with_suffix(".md").read_text().split(MARK)
    assert by_hand.startswith("# ")
    assert generated == f"\n\n{body(Page(study, records.read(file), file.with_suffix('')))}\n"
