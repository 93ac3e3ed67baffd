"""Draw docs/_static/house.svg: the rooms of varpro in the rows of tests/test_layers.py.

python scripts/draw_house.py
"""

import ast
import pathlib
import textwrap
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).parents[1]
WIDTH, LEFT, GAP, LINE = 980, 14, 10, 15
COLOURS = ["#0072b2", "#009e73", "#cc79a7", "#e69f00"]
SAYS = {
    "__main__": "python -m varpro",
    "app": "files, YAML, figures, command line; enters the core by its public names",
    "__init__": "the public names",
    "_fit": "fit()",
    "_load": "load()",
    "_prepare": "a fit that lacks its data",
    "_single": "one data set",
    "_global": "several data sets",
    "_batch": "many curves",
    "_linked": "data sets with coefficients in common",
    "_dmd": "dynamic modes",
    "_operator": "matrices by products",
    "_results": "what a fit returns; print, report, save",
    "_figures": "matplotlib",
    "_statistics": "covariance, intervals, bands, profile, bootstrap, diagnostics",
    "_search": "Levenberg-Marquardt, starts, derivative of the optimum",
    "_reduced": "residual and Jacobian in alpha alone",
    "_starts": "starts from the data",
    "_problem": "data, columns, weights, rules of coefficients, noise",
    "basis": "formulas with parameters",
    "_parameters": "names, bounds, ties, order, inequalities",
    "linalg": "factor, five verbs, derivative",
    "_given": "arrays and arguments as people give them",
    "_errors": "exceptions",
    "_status": "how a fit ends",
    "_types": "shape letters",
    "_text": "tables",
    "_equality": "same bits",
    "_places": "places in arrays, known before any number",
    "_programs": "compiled programs, in memory and on disk",
}


def rows() -> dict[str, list[str]]:
    """ROWS of the layer test, read as text so that drawing needs no pytest."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    node = next(n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "ROWS")
    return ast.literal_eval(node.value)


def files(room: str) -> str:
    """What stands in a room: its files, or the rooms of `app`."""
    folder = ROOT / "varpro" / room
    if not folder.is_dir():
        return ""
    if room == "app":
        return "  |  ".join(reversed(rows()["varpro.app"][:-1]))
    return "  ".join(
        sorted(p.stem.lstrip("_") for p in folder.glob("*.py") if p.stem != "__init__")
    )


def box(x: float, y: float, width: float, room: str, colour: str, height: float) -> list[str]:
    texts = [f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"']
    texts[0] += f' fill="{colour}" fill-opacity="0.12" stroke="{colour}"/>'
    lines = [(room, 14, "bold", "#111")]
    lines += [(t, 12, "normal", "#111") for t in wrapped(SAYS.get(room, ""), width, 6.3)]
    lines += [(t, 10.5, "normal", "#555") for t in wrapped(files(room), width, 5.6)]
    for i, (text, size, weight, fill) in enumerate(lines):
        texts.append(
            f'<text x="{x + 8:g}" y="{y + 17 + LINE * i:g}" font-size="{size}" '
            f'font-weight="{weight}" fill="{fill}">{escape(text)}</text>'
        )
    return texts


def wrapped(text: str, width: float, letter: float) -> list[str]:
    return textwrap.wrap(text, max(int((width - 16) / letter), 8), break_long_words=False)


def height_of(width: float, room: str) -> float:
    lines = 1 + len(wrapped(SAYS.get(room, ""), width, 6.3)) + len(wrapped(files(room), width, 5.6))
    return 10 + LINE * lines


def draw() -> str:
    body, y = [], 10.0
    for i, row in enumerate(reversed(rows()["varpro"])):
        rooms = row.split()
        # A folder needs more room for its files than a file for its name.
        shares = [3 if (ROOT / "varpro" / room).is_dir() else 1 for room in rooms]
        unit = (WIDTH - 2 * LEFT - GAP * (len(rooms) - 1)) / sum(shares)
        height = max(height_of(unit * n, room) for n, room in zip(shares, rooms, strict=True))
        x = float(LEFT)
        for share, room in zip(shares, rooms, strict=True):
            body += box(x, y, unit * share, room, COLOURS[i % len(COLOURS)], height)
            x += unit * share + GAP
        y += height + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:g}" '
    head += 'font-family="sans-serif"><rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, *body, "</svg>\n"])


if __name__ == "__main__":
    (ROOT / "docs" / "_static" / "house.svg").write_text(draw(), encoding="utf-8")
