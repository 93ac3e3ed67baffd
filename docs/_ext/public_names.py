"""The directive `public-names`: documents every public name that the page does not mention itself."""

import inspect
import pathlib
import re

from sphinx.util.docutils import SphinxDirective

import varpro


class PublicNames(SphinxDirective):
    def run(self):
        page = pathlib.Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf-8")
        named = set(re.findall(r"^\.\. auto\w+:: (?:varpro\.)?(\w+)", page, re.MULTILINE))
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
