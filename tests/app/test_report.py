"""The report: a page that needs nothing else, whose figures show the data, in colours of its own."""

import base64
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import varpro as vp
from varpro.app import cli
from varpro.app.report import figures as plot
from varpro.app.report.interactive import data_of, scripts
from varpro.app.report.svg import COLOURS, element

VOID = {"meta", "input", "br", "img", "hr"}
TEMPLATE = Path(cli.__file__).parent / "templates" / "report.html"


class Page(HTMLParser):
    """All elements of a page, and whether they are nested as they should be."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


PAGES = {}


@pytest.fixture
def page(here, varpro):
    """The report of a changed configuration; each is fitted once."""

    def made(change=str):
        path = here / "decay.yaml"
        text = change(path.read_text())
        if text not in PAGES:
            path.write_text(text)
            done = varpro("run", "decay.yaml")
            assert done.exit_code == 0, done.stderr
            PAGES[text] = (here / "run" / "report.html").read_text(encoding="utf-8")
        return PAGES[text]

    return made


def over_decades(text):
    """Of data that fall by decades the figure has a logarithmic scale, too; it can be looked into."""
    rows = "".join(f"{t},{np.exp(-t) + 1e-6 * t}\n" for t in range(1, 20))
    Path("steep.csv").write_text("t,counts\n" + rows)
    text = text.replace("{dir: run}", "{dir: run, interactive: true}")
    return text.replace("decay.csv", "steep.csv")


def several(text):
    data = "data: {path: decay.csv, x: t, y: counts}"
    sets = "datasets:\n  one: {path: decay.csv, x: t, y: counts}\n"
    sets += "  two: {path: decay.csv, x: t, y: counts, range: [1, 9]}\n"
    sets += "fit: {share: ['*.tau']}"
    return text.replace(data, sets)


@pytest.mark.parametrize("change", [str, several, over_decades])
def test_the_page_is_whole_and_needs_nothing_else(page, change):
    text = page(change)
    for one in scripts() if change is over_decades else ():
        assert text.count(one.text) == 1
        text = text.replace(one.text, "")
    read = Page(text)
    tags = {tag for tag, _ in read.found}
    assert not tags & {"link", "iframe", "img", "object"}
    for outside in ("http://", "https://", "@import", "src="):
        rest = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
        assert outside not in rest.replace("http://www.w3.org/", "")
    ids = [attrs["id"] for _, attrs in read.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    inside = set(re.findall(r'href="#([^"]*)"', text)) | set(re.findall(r"url\(#([^)]*)\)", text))
    inside |= {attrs["for"] for attrs in read.all("label")}
    assert inside <= set(ids)
    groups = {}
    for attrs in read.all("input"):
        groups.setdefault(attrs["name"], []).append("checked" in attrs)
    assert all(sum(one) == 1 and len(one) == 2 for one in groups.values())
    assert len(groups) == (change is over_decades)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)
    assert len(text) < 400_000


def test_each_data_set_has_its_figures_under_its_name(page):
    text = page(several)
    assert re.findall(r"<h3>(.*?)</h3>", text) == ["one", "two", "one", "two"]
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    residuals = ["Distribution of the residuals", "Autocorrelation of the residuals"]
    assert titles == ["Data and fit"] * 2 + residuals * 2


def test_how_a_search_went_is_shown_where_it_was_long(page, monkeypatch):
    monkeypatch.setattr("varpro.app.report.html._QUICK", 1)
    text = page(lambda config: several(config).replace("1, 9", "1, 8"))
    assert re.findall(r"<h3>(.*?)</h3>", text)[-1] == "All data sets"
    assert re.findall(r"<figcaption>(.*?)</figcaption>", text)[-1] == "Convergence"


SCRIPT = re.compile(r"<script([^>]*)>(.*?)</script>", re.DOTALL)


def shown_by(text):
    """What the figures of a page show to those who look into them."""
    return [json.loads(body) for kind, body in SCRIPT.findall(text) if "json" in kind]


def test_figures_to_look_into_show_what_the_pictures_show(page, here):
    text = page(over_decades)
    (figure,) = shown_by(text)
    named = {one["name"]: one for one in figure["data"]}
    data = np.loadtxt(here / "steep.csv", delimiter=",", skiprows=1)
    # Numbers keep six digits, x twelve.
    np.testing.assert_allclose(named["data"]["x"], data[:, 0], rtol=1e-11)
    np.testing.assert_allclose(named["data"]["y"], data[:, 1], rtol=1e-5)
    model = np.interp(data[:, 0], named["fit"]["x"], named["fit"]["y"])
    resid = named["residual"]
    np.testing.assert_allclose(resid["y"], data[:, 1] - model, atol=1e-4 * data[:, 1].max())
    assert (resid["xaxis"], resid["yaxis"], resid["showlegend"]) == ("x", "y2", False)
    assert {one["yaxis"] for one in figure["data"] if one is not resid} == {"y"}
    layout = figure["layout"]
    # One axis of x, below both panels; data and residuals have their own of y, of which the first can be logarithmic.
    assert layout["xaxis"]["anchor"] == "y2" and "xaxis2" not in layout
    assert (layout["yaxis"]["zeroline"], layout["yaxis2"]["zeroline"]) == (False, True)
    (button,) = (
        b for menu in layout["updatemenus"] for b in menu["buttons"] if b["label"] == "log y"
    )
    assert button["args"][0]["yaxis.type"] == "log" and "yaxis2.type" not in button["args"][0]
    assert button["args2"][0]["yaxis.type"] == "linear"
    style = TEMPLATE.read_text(encoding="utf-8")
    shades = set(re.findall(r"var\(--(\w+)\)", json.dumps(figure)))
    assert {"fit", "ink", "page"} <= shades and all(f"--{shade}: #" in style for shade in shades)


def test_only_the_scripts_of_the_figures_may_run(page):
    text = page(over_decades)
    run = [body for kind, body in SCRIPT.findall(text) if "json" not in kind]
    assert len(run) == 2 and "Plotly, Inc." in run[0][:300]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in run]
    assert "default-src 'none'" in policy
    allowed = " ".join(f"'sha256-{one}'" for one in digests)
    assert f"script-src {allowed};" in policy


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.mark.skipif(BROWSER is None, reason="chromium is not here")
def test_a_browser_draws_the_figures_under_the_policy_of_the_page(page, tmp_path):
    (tmp_path / "page.html").write_text(page(over_decades), encoding="utf-8")
    quiet = "--no-sandbox --disable-gpu --disable-background-networking --no-first-run".split()
    done = subprocess.run(
        [
            *(BROWSER, "--headless", *quiet, f"--user-data-dir={tmp_path / 'profile'}"),
            *("--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom"),
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # Two panels with a line through the residuals, the button for decades; the names of curves stand in the legend.
    drawn = done.stdout[done.stdout.rindex('class="live') :]
    assert '<figure class="full alive">' in done.stdout, done.stderr[-2000:]
    for panel in ("xy", "xy2"):
        assert f'<g class="subplot {panel}"' in drawn
    assert drawn.count('class="trace scatter') >= 3 and ">log y</text>" in drawn
    assert re.search(r'class="legendtext"[^>]*>fit</text>', drawn)
    assert "CONSOLE" not in done.stderr


def test_no_scripts_where_none_are_wanted(page):
    text = page()
    assert "<script" not in text and "script-src" not in text and "<svg" in text


def test_without_plotly_figures_are_pictures_and_a_line_says_so(here, varpro, monkeypatch):
    path = here / "decay.yaml"
    path.write_text(over_decades(path.read_text()))
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    scripts.cache_clear()
    done = varpro("run", "decay.yaml")
    text = (here / "run" / "report.html").read_text(encoding="utf-8")
    assert done.exit_code == 0 and "<script" not in text and "<svg" in text
    assert "pip install varpro[interactive]" in done.stderr and done.stderr.count("\n") == 1
    monkeypatch.undo()
    scripts.cache_clear()


def test_bands_gaps_and_names_reach_those_who_look_into_a_figure():
    fig = Figure()
    left, right = fig.subplots(1, 2)
    x = np.array([1.0, 2.0, 4.0])
    left.fill_between(x, [1.0, 2.0, 3.0], [2.0, 2.5, 3.5], color="#0072b2", alpha=0.25)
    left.plot(x, [1.0, np.nan, 2.0], color="#0072b2", label=r"_a \$b <a href='x'></script>")
    left.plot(x, [1.0, 1.5, 2.0], "o", color="#0072b2")
    right.plot(x, x, "o", color="#d55e00")
    right.plot(x, x, color="#009e73", label="other")
    right.axhline(0)
    text = data_of(fig)
    assert "<" not in text
    found = json.loads(text)
    high, low, line, points, *others = found["data"]
    assert (high["y"], low["y"]) == ([2.0, 2.5, 3.5], [1.0, 2.0, 3.0])
    assert (low["fill"], low["fillcolor"]) == ("tonexty", "var(--part0)40")
    # plotly reads texts as HTML: what is markup in a name is told as it is, and makes no link.
    assert line["name"] == "a $b &lt;a href='x'&gt;&lt;/script&gt;" and line["y"] == [
        1.0,
        None,
        2.0,
    ]
    # What belongs to a curve comes and goes with it.
    assert {one["legendgroup"] for one in (high, low, line, points)} == {line["name"]}
    assert [one["showlegend"] for one in found["data"]] == [False, False, True, False, False, True]
    assert {(one["xaxis"], one["yaxis"]) for one in others} == {("x2", "y2")}
    assert others[0]["mode"] == "markers" and others[0]["legendgroup"] != line["name"]
    wide, narrow = found["layout"], found["stacked"]
    assert wide["yaxis2"]["zeroline"] and not wide["yaxis"]["zeroline"]
    assert wide["xaxis"]["domain"][1] < wide["xaxis2"]["domain"][0]
    assert narrow["yaxis2"]["domain"][1] < narrow["yaxis"]["domain"][0]
    assert narrow["xaxis"]["domain"] == narrow["xaxis2"]["domain"] == [0, 1]
    # What is no curve is shown as it is drawn, and so is what would make the page large.
    right.imshow(np.eye(2))
    assert data_of(fig) is None
    large = Figure()
    large.subplots().plot(np.arange(70_000.0))
    assert data_of(large) is None


def test_the_dots_of_the_figure_are_the_data(page, here):
    svg = re.search(r"<svg.*?</svg>", page(), re.DOTALL)[0]
    dots = re.search(r'd="((?:M[-\d.]+ [-\d.]+h0)+)"', svg)[1]
    at = np.array([pair.split() for pair in re.findall(r"M([-\d. ]+)h0", dots)], float)
    lines = (here / "decay.csv").read_text().splitlines()[2:]
    data = np.array([line.split(",") for line in lines], float)
    assert at.shape == data.shape
    for drawn, given in zip(at.T, data.T, strict=True):
        slope, intercept = np.polyfit(given, drawn, 1)
        # Coordinates keep a hundredth of a point.
        np.testing.assert_allclose(drawn, slope * given + intercept, atol=0.02)
    assert np.polyfit(data[:, 1], at[:, 1], 1)[0] < 0


def test_no_plots_no_figures(page):
    text = page(lambda t: t.replace("{dir: run}", "{dir: run, plots: []}"))
    assert "<svg" not in text and "Residuals and uncertainty" not in text
    assert "decay.tau" in text


@pytest.mark.parametrize(
    ("panels", "labels"),
    [("[residuals]", {"data": 0, "fit": 0}), ("[fit]", {"data": 1, "decay": 0})],
)
def test_panels_are_those_asked_for(page, panels, labels):
    text = page(lambda t: t.replace("{dir: run}", f"{{dir: run, plots: {panels}}}"))
    first = re.search(r"<svg.*?</svg>", text, re.DOTALL)[0]
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", first)
    for label, count in labels.items():
        assert shown.count(label) == count


def test_letters_of_names_are_text_and_no_markup(page):
    text = page(lambda t: t.replace("decay:", '"<i>&$x$":'))
    assert "&lt;i&gt;&amp;$x$" in text and "<i>" not in text


def test_numbers_in_figures_keep_their_digits():
    def draw(fig):
        ax = fig.subplots()
        ax.plot([0, 1.23456789], [0, 1])
        ax.text(0.5, 0.5, "541.37931")

    assert ">541.37931<" in element(draw, 3, 2, "x-")


def palette(text, start):
    block = text[text.index(start) :]
    return dict(re.findall(r"--([\w]+): (#\w+);", block[: block.index("}")]))


def luminance(color):
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    return linear, float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("start", [":root {", "@media screen and (prefers-color-scheme: dark)"])
def test_colours_stand_out_from_the_page_and_from_each_other(start):
    shades = palette(TEMPLATE.read_text(encoding="utf-8"), start)
    assert set(COLOURS.values()) <= set(shades)
    page = luminance(shades["page"])[1]

    def contrast(name):
        low, high = sorted((luminance(shades[name])[1], page))
        return (high + 0.05) / (low + 0.05)

    # WCAG 2: text 4.5 to 1. Lines less, as Okabe and Ito's lighter colours have no more on white.
    assert all(contrast(name) >= 4.5 for name in ("ink", "soft", "good", "bad"))
    curves = [name for name in COLOURS.values() if name not in ("ink", "faint")]
    assert all(contrast(name) >= 2.0 for name in curves)
    # Vienot, Brettel and Mollon (1999): linear RGB as seen without red or without green cones.
    blind = {
        "red": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "green": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    for matrix in blind.values():
        seen = [np.cbrt(np.clip(np.array(matrix) @ luminance(shades[n])[0], 0, 1)) for n in curves]
        apart = [np.abs(a - b).max() for a, b in itertools.combinations(seen, 2)]
        assert min(apart) > 0.05


def test_pictures_of_a_batch_are_maps_and_curves(tmp_path, rng):
    x = np.linspace(0, 5, 30)
    tau = np.linspace(0.8, 2, 6).reshape(2, 3, 1)
    image = np.exp(-x / tau) + 0.01 * rng.normal(size=(2, 3, 30))
    fit = vp.fit_many(vp.Exp("d", tau=1.0), x, image)
    found = plot.pictures_of_batch(fit, image, vp.Labels("t", "y"))
    assert [one.name for one in found] == ["maps", "curves"]
    for one in found:
        plot.write_picture(one, tmp_path / f"{one.name}.png", 6, 4)
        assert (tmp_path / f"{one.name}.png").stat().st_size > 5000
    assert "data:image/png;base64" in element(found[0].draw, 6, 4, "m-")


def test_all_figures_can_be_had_as_files(here, varpro):
    path = here / "decay.yaml"
    path.write_text(several(path.read_text()))
    bare = ("--set", "output.report=none", "-q")
    assert varpro("run", "decay.yaml", *bare).exit_code == 0
    done = varpro("plot", "run", "--format", "svg", "--out", "figures")
    assert done.exit_code == 0, done.stderr
    written = sorted(p.name for p in (here / "figures").iterdir())
    each = [f"{name}.{one}.svg" for name in ("fit", "lags", "spread") for one in ("one", "two")]
    assert written == sorted([*each, "convergence.svg"])
    before = (here / "figures" / "fit.two.svg").read_bytes()
    assert varpro("plot", "run", "--format", "svg").exit_code == 0
    assert (here / "run" / "fit.two.svg").read_bytes() == before
    # What varpro wrote it may replace.
    assert varpro("run", "decay.yaml", *bare, "--overwrite").exit_code == 0


def test_the_report_of_an_image_has_maps_and_curves(here, varpro):
    x = np.linspace(0, 5, 30)
    image = np.exp(-x[:, None, None] / np.linspace(0.8, 2, 6).reshape(2, 3))
    image[:, 1, 1] = np.nan
    np.savez(here / "image.npz", t=x, counts=image)
    (here / "image.yaml").write_text(
        "schema: 1\ndata: {path: image.npz, x: t, y: counts, dims: [t, row, column]}\n"
        "model: {decay: {kind: exp, tau: 1.0}}\nfit: {share: none}\n"
        "output: {dir: maps, interactive: true}\n"
    )
    done = varpro("run", "image.yaml")
    assert done.exit_code == 3, done.stderr
    assert {"maps.png", "report.html"} <= {p.name for p in (here / "maps").iterdir()}
    text = (here / "maps" / "report.html").read_text(encoding="utf-8")
    Page(text)
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert titles == [
        "Parameters, their errors, and how each fit ended",
        "A good, a middling and a bad curve",
    ]
    assert "1 of 6 curves did not converge (1 bad_data)" in text
    assert re.search(r'<td class="name">decay.tau</td>\s*<td class="number">0.8', text)
    # Maps are pictures; curves can be looked into.
    assert len(shown_by(text)) == 1
    # The data of the curves that are shown were read from the file, along its first axis.
    assert len(re.findall(r'd="(?:M[-\d.]+ [-\d.]+h0){30}"', text)) == 6


def test_columns_without_a_header_are_called_columns(here, varpro):
    rows = "".join(f"{t} {np.exp(-t / 3)}\n" for t in range(1, 20))
    (here / "bare.txt").write_text(rows)
    text = (here / "decay.yaml").read_text()
    text = text.replace("path: decay.csv, x: t, y: counts", "path: bare.txt, x: 1, y: 2")
    (here / "decay.yaml").write_text(text)
    assert varpro("run", "decay.yaml", "-q").exit_code == 0
    page = (here / "run" / "report.html").read_text(encoding="utf-8")
    assert ">column 1<" in page and ">column 2<" in page
