"""The directive `public-names`: documents every public name that no page of the folder mentions itself."""

import inspect
import pathlib
import re

from sphinx.util.docutils import SphinxDirective

import varpro


class PublicNames(SphinxDirective):
    def run(self):
        folder = pathlib.Path(self.env.doc2path(self.env.docname)).parent
        pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted(folder.glob("*.md")))
        named = set(re.findall(r"^\.\. auto\w+:: (?:varpro\.)?(\w+)", pages, re.MULTILINE))
        lines = []
        for name in sorted({*varpro.__all__} - named):
            value = getattr(varpro, name)
            if inspect.ismodule(value):
                continue
            kind = "autoclass" if inspect.isclass(value) else "autofunction"
            lines += [f".. {kind}:: varpro.{name}", "   :members:" * (kind == "autoclass"), ""]
        if lines:
            lines = [".. rubric:: Further names", "", *lines]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app):
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
