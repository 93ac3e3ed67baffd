"""Formulas as pictures in the page, drawn by matplotlib: they need no script, no font and no network.

What matplotlib knows of TeX is enough for formulas of one line; an empty line parts lines.
"""

import html
import io
import re

import matplotlib
from docutils import nodes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser

# Points of a letter, and a colour that no other thing has: what is drawn in it takes that of the text.
_SIZE, _COLOUR = 12.0, "#010203"


def drawn(formula: str) -> str:
    """One line of TeX as SVG, sized in em, on the line of the text around it."""
    text = f"${formula}$"
    with matplotlib.rc_context({"svg.fonttype": "path"}):
        font = FontProperties(size=_SIZE)
        width, height, depth, *_ = MathTextParser("path").parse(text, dpi=72, prop=font)
        figure = Figure(figsize=(width / 72, height / 72))
        figure.text(0, depth / height, text, fontproperties=font, color=_COLOUR)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    picture = file.getvalue()[file.getvalue().index("<svg") :].replace(_COLOUR, "currentColor")
    # Glyphs are called after their font in all pictures; other names and styles are left out.
    for left_out in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r' id="[a-z]+_\d+"'):
        picture = re.sub(left_out, "", picture, flags=re.DOTALL)
    style = f"width:{width / _SIZE:.3f}em;height:{height / _SIZE:.3f}em;vertical-align:{-depth / _SIZE:.3f}em"
    head = f'role="img" aria-label="{html.escape(formula)}" style="{style};overflow:visible"'
    return re.sub(r' width="[^"]*" height="[^"]*"', lambda _: f" {head}", picture, count=1)


def _inline(self, node: nodes.math) -> None:
    self.body.append(f'<span class="math">{drawn(node.astext()).strip()}</span>')
    raise nodes.SkipNode


def _block(self, node: nodes.math_block) -> None:
    lines = [line.strip() for line in node.astext().split("\n\n") if line.strip()]
    shown = "".join(f"<div>{drawn(' '.join(line.split()))}</div>" for line in lines)
    self.body.append(f'<div class="math">{shown}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathtext", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
