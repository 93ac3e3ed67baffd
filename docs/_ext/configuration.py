"""Writes `reference/configuration.md`, the page that `varpro schema --markdown` prints."""

import pathlib

from varpro.app.scaffold.reference import markdown_page


def setup(app):
    page = pathlib.Path(__file__).parents[1] / "reference" / "configuration.md"
    text = markdown_page()
    # A file that did not change is not read again.
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")
    return {"parallel_read_safe": True}
