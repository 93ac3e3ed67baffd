"""Draws the pictures of the README and of docs/first.md: each is what the block of code above it returns.

python scripts/draw_first_fit.py
"""

import ast
import os
import pathlib
import re
import tempfile
from typing import Any

import jax
import matplotlib

ROOT = pathlib.Path(__file__).parents[1]
STATIC = ROOT / "docs" / "_static"
PIECE = re.compile(
    r"```python\n(?P<code>.*?)```|!\[[^]]*\]\((?:docs/)?_static/(?P<name>\w+)\.svg\)", re.DOTALL
)


def value_of(code: str, namespace: dict[str, Any]) -> Any:
    """Run a block; the value of its last line, if that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "block", "exec"), namespace)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "block", "eval"), namespace)


def draw(page: pathlib.Path, done: set[str]) -> None:
    namespace: dict[str, Any] = {}
    shown = None
    for piece in PIECE.finditer(page.read_text("utf-8")):
        if piece["code"]:
            shown = value_of(piece["code"], namespace)
        elif piece["name"] not in done:
            # The README shows its fit without a line that draws it.
            figure = shown if hasattr(shown, "savefig") else namespace["fit"].plot()
            figure.set_size_inches(7, 4)
            figure.savefig(
                STATIC / f"{piece['name']}.svg", metadata={"Date": None}, facecolor="white"
            )
            done.add(piece["name"])


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    # The same picture makes the same file.
    matplotlib.rcParams["svg.hashsalt"] = "varpro"
    done: set[str] = set()
    pages = [ROOT / "README.md", ROOT / "docs" / "first.md"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for page in pages:
            draw(page, done)


if __name__ == "__main__":
    main()
