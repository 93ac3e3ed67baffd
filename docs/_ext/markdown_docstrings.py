"""Docstrings of this project are Markdown; autodoc expects reStructuredText.

The little Markdown that they use becomes its equivalent: `code`, lists whose items continue four
spaces further in, and blocks of code by indentation. Code that is a public name becomes a link to it.
"""

import inspect
import re

from docutils import nodes
from sphinx import addnodes

import varpro

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
        out.append(_marked(line))
    return out


def _marked(line: str) -> str:
    """A line in reStructuredText: code in turn with text, in which nothing is taken for markup."""
    parts = CODE.split(line)
    return "".join(_code(part) if i % 2 else STAR.sub(r"\\*", part) for i, part in enumerate(parts))


def _code(text: str) -> str:
    """Code, as a link where it is the name of a class, or of anything with `vp.` before it."""
    full = LINKED.get(text.removeprefix("vp.").removeprefix("varpro."))
    given = text[:1].isupper() or text.startswith(("vp.", "varpro."))
    return f":py:obj:`{text} <{full}>`" if full and given else f"``{text}``"


def _linked() -> dict[str, str]:
    """Full names by what they are called: `Exp`, `linalg.SVD`, `SVD`."""
    names = {}
    for house in ("basis", "linalg"):
        for name, value in inspect.getmembers(getattr(varpro, house)):
            if callable(value) and name[0] != "_":
                names[name] = names[f"{house}.{name}"] = f"varpro.{house}.{name}"
    return names | {name: f"varpro.{name}" for name in varpro.__all__}


LINKED = _linked()


def _process(app, what, name, obj, options, lines):
    # A code span may reach over the end of a line.
    text = re.sub(r"(?<![`\w])`([^`\n]+)\n\s*([^`\n]+)`(?![`\w])", r"`\1 \2`", "\n".join(lines))
    lines[:] = convert(text.split("\n"))


PRIVATE = re.compile(r"\bvarpro\.(?:\w+\.)*?_\w+\.(?:\w+\.)*(?=\w)")


def _shorten(app, doctree):
    """Types in signatures by their last names: where they are defined is private. What `**options` may be
    is said below."""
    for signature in doctree.findall(addnodes.desc_signature):
        for parameter in [*signature.findall(addnodes.desc_parameter)]:
            if parameter.astext().startswith("**"):
                parameter.children = parameter.children[:2]
        for text in [*signature.findall(nodes.Text)]:
            if PRIVATE.search(text):
                text.parent.replace(text, nodes.Text(PRIVATE.sub("", text)))


def setup(app):
    app.connect("doctree-read", _shorten)
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
