"""What a release says of itself: citation, changelog, and the workflow that uploads it.

The rules for CITATION.cff are those of https://citation-file-format.github.io, version 1.2.0, as
far as this file uses it; the validator of that format is no longer maintained.
"""

import datetime
import re

import pytest
import yaml

from tests.test_packaging import PROJECT, ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
REQUIRED = {"cff-version", "message", "title", "authors"}
KEYS = REQUIRED | {
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "preferred-citation", "references", "repository"),
    *("repository-artifact", "repository-code", "type", "url", "version"),
}
REFERENCE = {  # of a thesis, and others
    *("abstract", "authors", "date-released", "doi", "identifiers", "institution", "keywords"),
    *("license", "title", "type", "thesis-type", "url", "year", "version"),
}
PERSON = {"affiliation", "alias", "email", "family-names", "given-names", "orcid", "website"}
ENTITY = {"alias", "email", "name", "orcid", "website"}
IDENTIFIERS = {"doi", "other", "swh", "url"}


def is_author(author: dict) -> bool:
    """A person, or an entity, which has a name."""
    return bool(author) and (author.keys() <= PERSON or "name" in author.keys() <= ENTITY)


def test_the_citation_is_what_the_format_asks_for():
    assert REQUIRED <= CITATION.keys() <= KEYS
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    assert CITATION["authors"] and all(map(is_author, CITATION["authors"]))
    texts = [*(CITATION[key] for key in ("abstract", "message", "title")), *CITATION["keywords"]]
    assert all(isinstance(text, str) and text for text in texts)


def test_references_are_what_the_format_asks_for():
    for reference in CITATION["references"]:
        assert {"authors", "title", "type"} <= reference.keys() <= REFERENCE
        assert reference["authors"] and all(map(is_author, reference["authors"]))
        assert isinstance(reference["year"], int)
        assert reference["url"].startswith("https://")
        assert "name" in reference["institution"].keys() <= ENTITY
        for found in reference["identifiers"]:
            assert {"type", "value"} <= found.keys() <= {"type", "value", "description"}
            assert found["type"] in IDENTIFIERS


def test_version_licence_and_date_are_everywhere_the_same():
    for key in ("version", "license"):
        assert CITATION[key] == PROJECT[key]
    lines = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line[:3] == "## "]
    assert lines[0] == "## [Unreleased]"
    newest = re.fullmatch(r"## \[(.*)\] - (\d{4}-\d\d-\d\d)", lines[1])
    assert newest and newest[1] == PROJECT["version"]
    assert CITATION["date-released"] == datetime.date.fromisoformat(newest[2])


def test_sections_of_the_changelog_are_those_of_keep_a_changelog():
    for version in (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1:]:
        kinds = re.findall(r"^### (.*)$", version, re.MULTILINE)
        assert len(kinds) == len(set(kinds))
        known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        assert set(kinds) <= known


WORKFLOWS = {p.stem: yaml.safe_load(p.read_text()) for p in ROOT.glob(".github/workflows/*.yml")}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_may_no_more_than_they_must(name):
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        if "write" in job.get("permissions", {}).values():
            assert "environment" in job  # where a person can be asked
            assert not any("run" in step for step in job["steps"])  # no code of a package runs


def test_only_what_was_tested_is_published():
    jobs = WORKFLOWS["publish"]["jobs"]
    assert jobs["publish"]["needs"] == "test" and jobs["test"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"]["name"] == "pypi"
