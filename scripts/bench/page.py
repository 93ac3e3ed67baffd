"""The page of the benchmarks: time against size, and a table of every number."""

import pathlib
from collections import defaultdict
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from metrics import Metric

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "benchmarks"
PALETTE = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
# What a panel shows: its file, its suite, which cases, its title.
PANELS = (
    ("single", "single", lambda one: True, "one fit: two decays and a constant"),
    ("global", "global", lambda one: True, "three lifetimes and a response, 1000 samples"),
    ("image", "image", lambda one: one.case.startswith("normal"), "least squares, 256 bins"),
    ("image_poisson", "image", lambda one: one.case.startswith("poisson"), "Poisson likelihood"),
    ("kernels", "kernels", lambda one: one.case.startswith("QR 2000x50"), "QR of 2000 x 50"),
    ("complex", "complex", lambda one: True, "complex signals"),
)


def draw(metrics: list[Metric], title: str, path: pathlib.Path) -> None:
    """One line for each who, against size; both axes logarithmic but for a size of zero."""
    lines = defaultdict(list)
    for one in metrics:
        lines[one.who].append((one.size, one.value))
    fig = Figure(figsize=(5.6, 3.8), layout="constrained")
    ax = fig.subplots()
    ours = sorted(lines, key=lambda who: not who.startswith("varpro"))
    for who, color in zip(ours, PALETTE, strict=False):
        x, y = zip(*sorted(lines[who]), strict=True)
        mine = who.startswith("varpro")
        ax.plot(x, y, marker="o", ms=4, lw=2 if mine else 1.2, color=color, label=who)
    ax.set(yscale="log", xlabel=metrics[0].size_name, ylabel=metrics[0].unit, title=title)
    ax.set_xscale("symlog" if min(one.size or 0 for one in metrics) == 0 else "log")
    ax.grid(color="0.9")
    ax.legend(frameon=False, fontsize=8)
    # The same numbers draw the same file.
    with matplotlib.rc_context({"svg.hashsalt": "varpro", "svg.fonttype": "none"}):
        fig.savefig(path, metadata={"Date": None})


def render(machine: dict[str, Any], metrics: list[Metric]) -> None:
    """Write the pictures and the table of numbers."""
    drawn = []
    for name, suite, chosen, title in PANELS:
        of_suite = [one for one in metrics if one.suite == suite and one.size is not None]
        shown = [one for one in of_suite if chosen(one)]
        if shown:
            draw(shown, title, FOLDER / f"{name}.svg")
            drawn.append(name)
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    text = [
        "<!-- Written by scripts/bench/run.py --render; do not edit. -->",
        f"Measured on a machine shared with other work: {described}.",
        "",
        *(f"![{name}]({name}.svg)" for name in drawn),
        "",
        "| what | who | value | of the peer |",
        "|---|---|---|---|",
    ]
    for one in metrics:
        ratio = f"{one.ratio:.2f} ({one.against})" if one.ratio else ""
        text.append(
            f"| {one.suite}: {one.case} | {one.who} | {one.value:.4g} {one.unit} | {ratio} |"
        )
    (FOLDER / "measured.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
