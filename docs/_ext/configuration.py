"""Writes `reference/configuration.md`, the page that `varpro schema --markdown` prints, and
`reference/formats.md`, the table of the formats of files."""

import pathlib

from varpro.app.scaffold.formats_page import formats_page
from varpro.app.scaffold.reference import markdown_page


def setup(app):
    folder = pathlib.Path(__file__).parents[1] / "reference"
    for name, text in (("configuration.md", markdown_page()), ("formats.md", formats_page())):
        # A file that did not change is not read again.
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text:
            (folder / name).write_text(text, encoding="utf-8")
    return {"parallel_read_safe": True}
