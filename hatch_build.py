"""What a package index shows: the README, whose links to files lead to the address that `[project.urls]` calls Source,
and are text alone while it names none."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)]*)\)")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)]*)\)")


def described(text: str, source: str | None) -> str:
    """The text of a README for readers who have none of the files beside it."""
    if source is None:
        return _LINK.sub(r"\1", _PICTURE.sub(r"*Picture: \1.*", text))
    text = _PICTURE.sub(rf"![\1]({source}/raw/HEAD/\2)", text)
    return _LINK.sub(rf"[\1]({source}/blob/HEAD/\2)", text)


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": described(text, source and source.rstrip("/")),
        }
