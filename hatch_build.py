"""The README as a package index shows it: relative links lead nowhere from there."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Readme(MetadataHookInterface):
    """Sets `readme` of the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        url = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {"content-type": "text/markdown", "text": standalone(text, url)}


def standalone(text: str, url: str | None) -> str:
    """Markdown whose relative links start with `url`; without one pictures go and links are words.

    A project that has a public place names its files there (…/blob/main) in `project.urls.Source`.
    """
    relative = r"\[([^\]]*)\]\((?!https?://|#)([^)]+)\)"
    if url:
        return re.sub(relative, rf"[\1]({url.rstrip('/')}/\2)", text)
    return re.sub(relative, r"\1", re.sub("!" + relative + r"\n+(\*[^*]+\*\n+)?", "", text))
