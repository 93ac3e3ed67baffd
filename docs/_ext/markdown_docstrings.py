"""Docstrings of this project are Markdown; autodoc expects reStructuredText.

The little Markdown that they use becomes its equivalent: `code`, lists whose items continue four
spaces further in, and blocks of code by indentation.
"""

import re

CODE = re.compile(r"(?<![`\w])`([^`\n]+)`(?![`\w])")
ITEM = re.compile(r"(\s*)- ")
STAR = re.compile(r"(?<![*\\])\*(?!\*)")  # a pattern such as "*.tau", no emphasis


def convert(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText."""
    out: list[str] = []
    item, code = None, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        blank = not line.strip()
        start = ITEM.match(line)
        if code:
            if blank or indent >= 4:
                out.append(line)
                continue
            code = False
        if start:
            item = len(start[1])
            if out and out[-1].strip() and not ITEM.match(out[-1]) and not out[-1].startswith("  "):
                out.append("")
        elif item is not None and not blank and indent > item:
            # What continues an item stands under its first letter.
            line = " " * (item + 2) + line.lstrip()
        elif not blank:
            item = None
            if indent >= 4 and (not out or not out[-1].strip()):
                out += ["::", "", line]
                code = True
                continue
        out.append("``".join(_words(line)))
    return out


def _words(line: str) -> list[str]:
    """Text and code in turn, with what reStructuredText would take for markup made plain."""
    parts = CODE.split(line)
    return [STAR.sub(r"\\*", part) if i % 2 == 0 else part for i, part in enumerate(parts)]


def _process(app, what, name, obj, options, lines):
    # A code span may reach over the end of a line.
    text = re.sub(r"(?<![`\w])`([^`\n]+)\n\s*([^`\n]+)`(?![`\w])", r"`\1 \2`", "\n".join(lines))
    lines[:] = convert(text.split("\n"))


def setup(app):
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
