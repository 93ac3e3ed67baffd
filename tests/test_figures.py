"""Figures show the numbers of the fit, leave matplotlib as it was, and can be told apart by all."""

import dataclasses
import itertools
import subprocess
import sys
import types

import matplotlib
import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import varpro as vp
from varpro._figures import correlations, residuals, style

MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")
AT = np.array([500.0, 530, 520, 510, 540, 550, 560, 570])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    x = np.linspace(0, 10, 60)
    shapes = np.stack([np.exp(-x / 0.7), np.exp(-x / 4), np.ones_like(x)], axis=1)
    coef = np.stack([3 + np.cos(np.arange(8)), 2 + np.sin(np.arange(8)), 0.3 * np.ones(8)])
    return x, shapes @ coef + 0.02 * rng.normal(size=(60, 8))


@pytest.fixture(scope="module")
def one(data):
    x, y = data
    return vp.fit(MODEL, x, y[:, 0])


@pytest.fixture(scope="module")
def many(data):
    return vp.fit(MODEL, *data, share="all")


@pytest.fixture(scope="module")
def sets(data):
    x, y = data
    return vp.fit(MODEL, {"a": (x, y[:, 0]), "b": (x[::2], y[::2, 1])}, share=["*.tau"])


@pytest.fixture(scope="module")
def batch(data):
    x, y = data
    image = np.repeat(y.T[:6], 2, axis=0).reshape(3, 4, -1).copy()
    image[1, 2, 5] = np.nan
    return vp.fit_many(MODEL, x, image), image


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_curves_components_and_residuals_are_those_of_the_fit(one):
    above, below = one.plot(labels=vp.Labels("time $t$", "counts")).axes
    drawn = lines(above)
    assert list(drawn)[-1] == "fit" and {"data", "fast", "slow", "bg"} <= set(drawn)
    np.testing.assert_array_equal(drawn["data"].get_ydata(), one.y)
    x, y = drawn["fit"].get_data()
    np.testing.assert_allclose(np.interp(one.x, x, y), one.fitted, rtol=1e-12)
    parts = sum(np.asarray(drawn[name].get_ydata()) for name in one.columns)
    np.testing.assert_allclose(parts, y, rtol=1e-12)
    np.testing.assert_array_equal(below.get_lines()[-1].get_ydata(), one.y - one.fitted)
    # What stands between dollars is no formula.
    assert below.get_xlabel() == r"time \$t\$" and above.get_ylabel() == "counts"


def test_weights_weigh_residuals_and_masked_samples_are_not_drawn(data):
    x, y = data
    weights = np.where(x > 5, 2.0, 1.0)
    weights[7] = 0.0
    fit = vp.fit(MODEL, x, y[:, 0], weights=weights)
    above, below = fit.plot().axes
    used = weights > 0
    expected = ((y[:, 0] - fit.fitted) * weights)[used]
    np.testing.assert_allclose(below.get_lines()[-1].get_ydata(), expected, rtol=1e-12)
    (dots,) = (line for line in above.get_lines() if line.get_marker() == "o")
    np.testing.assert_array_equal(dots.get_xdata(), x[used])


def test_a_logarithmic_axis_holds_the_positive_data(one):
    above, _ = one.plot(log="xy").axes
    assert (above.get_xscale(), above.get_yscale()) == ("log", "log")
    low, high = above.get_ylim()
    assert 0 < low < one.y.min() and one.y.max() < high
    with pytest.raises(vp.InputError, match="log must be one of '', 'x', 'y', 'xy', not 'z'"):
        one.plot(log="z")


def test_of_many_right_hand_sides_six_or_those_asked_for_are_drawn(many):
    labels = vp.Labels(rhs="wavelength", at=AT)
    above, _ = many.plot(labels=labels).axes
    named = [label for label in lines(above) if not label.startswith("_")]
    assert named == ["500", "530", "510", "540", "560", "570"]
    above, _ = many.plot(rhs=[7, 1], labels=labels).axes
    np.testing.assert_array_equal(above.get_lines()[0].get_ydata(), many.y[:, 7])
    with pytest.raises(vp.InputError, match=r"rhs must be among 0 to 7, not \[8\]"):
        many.plot(rhs=8)


def test_complex_data_are_two_curves(rng):
    x = np.linspace(0, 5, 80)
    noise = 0.01 * (rng.normal(size=80) + 1j * rng.normal(size=80))
    # The decay is real, its amplitude is not.
    fit = vp.fit(vp.Exp("d", tau=1.0), x, (2 + 1j) * np.exp(-x / 1.5) + noise)
    above, below = fit.plot().axes
    assert {"real", "imag"} <= set(lines(above))
    np.testing.assert_array_equal(above.get_lines()[0].get_ydata(), fit.y.real)
    np.testing.assert_array_equal(below.get_lines()[-1].get_ydata(), fit.resid.imag)
    assert isinstance(fit.plot_residuals(), Figure) and isinstance(fit.plot_components(), Figure)


def test_a_model_of_two_axes_is_drawn_over_samples(rng):
    u, v = rng.uniform(size=(2, 50))

    def surface(theta, x):
        return {"wave": np.e ** (-x["u"] / theta["tau"]) * x["v"]}

    y = 2 * np.exp(-u / 0.5) * v + 0.01 * rng.normal(size=50)
    fit = vp.fit(surface, {"u": u, "v": v}, y, init={"tau": 0.3})
    above, below = fit.plot().axes
    assert below.get_xlabel() == "sample"
    np.testing.assert_array_equal(lines(above)["fit"].get_ydata(), fit.fitted)


def test_a_function_that_needs_its_own_grid_is_drawn_on_it(data):
    x, y = data

    def counted(theta, x):
        return {"d": np.e ** (-x / theta["tau"]) / x.shape[0]}

    fit = vp.fit(counted, x, y[:, 0], init={"tau": 1.0})
    np.testing.assert_array_equal(lines(fit.plot().axes[0])["fit"].get_xdata(), x)


def test_the_distribution_of_residuals_is_a_density_in_standard_deviations(one):
    spread = one.plot_residuals().axes[1]
    area = sum(bar.get_width() * bar.get_height() for bar in spread.patches)
    assert area == pytest.approx(1.0)
    resid = residuals.standardised(one)
    assert np.sum(resid**2) / one.dof == pytest.approx(1.0)


def test_autocorrelation_is_the_textbook_one(rng):
    resid = np.cumsum(rng.normal(size=100))
    whole = np.correlate(resid, resid, "full")[99:]
    found = residuals.autocorrelation(resid[:, None], 12)
    np.testing.assert_allclose(found, whole[1:13] / whole[0], rtol=1e-12)


def test_residuals_of_many_right_hand_sides_are_a_map_sorted_by_position(many):
    fig = many.plot_residuals(labels=vp.Labels(rhs="wavelength", at=AT))
    (mesh,) = fig.axes[0].collections
    np.testing.assert_array_equal(mesh.get_array(), many.resid[:, np.argsort(AT)].T)
    assert fig.axes[0].get_ylabel() == "wavelength"


def test_spectra_of_the_components_have_their_errors(many):
    _, right = many.plot_components(labels=vp.Labels(at=AT)).axes
    order = np.argsort(AT)
    drawn = lines(right)
    for i, (name, band) in enumerate(zip(many.columns, right.collections, strict=True)):
        np.testing.assert_array_equal(drawn[name].get_ydata(), many.coef[i][order])
        edge = band.get_paths()[0].vertices
        assert np.any(np.isclose(edge[:, 1], (many.coef[i] + many.coef_stderr[i])[0]))
    with pytest.raises(vp.InputError, match="labels.at has 2 positions for 8 right-hand sides"):
        many.plot_components(labels=vp.Labels(at=AT[:2]))


def test_correlations_are_those_of_the_fit(one, many, sets):
    for fit, size in ((one, 5), (many, 2), (sets, 2)):
        ax = fit.plot_corr().axes[0]
        shown = np.asarray(ax.images[0].get_array())
        np.testing.assert_array_equal(shown, fit.correlation[:size, :size])
        assert len(ax.texts) == size * (size - 1)
        assert [t.get_text() for t in ax.get_yticklabels()] == list(fit.cov_names[:size])
    fixed = vp.fit(MODEL, many.x, many.y, fix=["*.tau"], share="all")
    with pytest.raises(vp.InputError, match="no free parameter"):
        fixed.plot_corr()


def test_data_sets_stand_beside_each_other(sets):
    labels = {"a": vp.Labels("t", "first"), "b": vp.Labels("t", "second")}
    fig = sets.plot(labels=labels)
    assert [part.get_suptitle() for part in fig.subfigs] == ["a", "b"]
    assert [part.axes[0].get_ylabel() for part in fig.subfigs] == ["first", "second"]
    first = lines(fig.subfigs[1].axes[0])["data"]
    np.testing.assert_array_equal(first.get_ydata(), sets["b"].y)
    assert len(sets.plot_residuals().axes) == 6 and len(sets.plot_components().axes) == 2


def test_maps_show_values_errors_and_how_each_fit_ended(batch):
    fit, _ = batch
    fig = fit.plot_maps(["slow.tau", "bg"])
    shown = {ax.get_title(loc="left"): ax for ax in fig.axes if ax.images and ax.get_visible()}
    assert set(shown) == {
        *("slow.tau", "slow.tau, std. error", "bg", "bg, std. error"),
        *("reduced chi-square", "status"),
    }
    for name in ("slow.tau", "bg"):
        found = np.ma.filled(shown[name].images[0].get_array(), np.nan)
        expected = np.where(fit.success, fit[name].value, np.nan)
        np.testing.assert_array_equal(found, expected)
        assert np.isnan(found[1, 2])
    bar = next(ax for ax in fig.axes if "bad_data" in [t.get_text() for t in ax.get_yticklabels()])
    assert [t.get_text() for t in bar.get_yticklabels()][-1] == "bad_data"
    codes = np.asarray(shown["status"].images[0].get_array())
    assert codes[1, 2] == codes.max() and np.sum(codes == codes.max()) == 1


def test_a_row_of_fits_is_drawn_as_curves(batch):
    fit, image = batch
    row = vp.fit_many(MODEL, fit.x, image[0])
    axes = row.plot_maps(labels=vp.Labels(rhs="position", at=np.array([1.0, 2, 4, 8]))).axes
    assert len(axes) == 7 and axes[-1].get_xlabel() == "position"
    x, y = axes[1].get_lines()[0].get_data()
    np.testing.assert_array_equal(x, [1, 2, 4, 8])
    np.testing.assert_array_equal(y, row["slow.tau"].value)


def test_single_curves_of_a_batch(batch):
    fit, image = batch
    fig = fit.plot(image)
    ranks = np.sort(fit.redchi[fit.success])
    shown = [float(ax.get_title().split()[-1]) for ax in fig.axes]
    expected = [ranks[round(p * (len(ranks) - 1))] for p in (0.05, 0.5, 0.95)]
    np.testing.assert_allclose(shown, expected, rtol=5e-3)
    (ax,) = fit.plot(image, (2, 3), log="y").axes
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), image[2, 3])
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), fit.predict((2, 3)))
    with pytest.raises(vp.InputError, match=r"index \(3, 0\) is not in a batch of shape \(3, 4\)"):
        fit.plot(image, (3, 0))
    with pytest.raises(vp.InputError, match=r"y has shape \(3, 4, 59\)"):
        fit.plot(image[..., 1:])


def test_coefficients_of_the_pixels_of_an_image_are_maps(many, data):
    found = many.plot_maps((2, 4)).axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(found), many.coef[0].reshape(2, 4))
    with pytest.raises(vp.InputError, match=r"shape = \(3, 3\) has 9 pixels for 8"):
        many.plot_maps((3, 3))
    x, y = data
    small = vp.fit(MODEL, x, vp.compress(y)).completed(y)
    again = small.plot_maps((2, 4)).axes[0].images[0].get_array()
    np.testing.assert_allclose(np.asarray(again), many.coef[0].reshape(2, 4), rtol=1e-6)
    assert len(small.plot_components().axes) == 2 and small.plot_corr().axes


def test_costs_go_from_the_start_to_the_end(one, sets, many):
    phi = np.stack([np.exp(-one.x / 0.5), np.exp(-one.x / 5.0), np.ones_like(one.x)], axis=1)
    for fit, y in ((one, one.y), (many, many.y)):
        left = y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]
        assert fit.costs[0] == pytest.approx(0.5 * np.sum(left**2), rel=1e-9)
    for fit in (one, sets, many):
        assert fit.costs.shape == (fit.num_steps,)
        assert fit.costs[-1] == pytest.approx(fit.cost, rel=1e-9)
        assert np.all(np.diff(fit.costs) <= 1e-12 * fit.costs[:-1])
        (ax,) = fit.plot_convergence().axes
        step, excess = ax.get_lines()[0].get_data()
        np.testing.assert_allclose(excess[0], fit.costs[0] / fit.costs.min() - 1)
        assert step[0] == 0
    with pytest.raises(vp.InputError, match="No costs"):
        dataclasses.replace(one, costs=np.zeros(0)).plot_convergence()


def test_figures_of_the_user_are_drawn_in_and_shown_by_notebooks(one):
    mine = Figure(figsize=(5, 4))
    assert one.plot(fig=mine) is mine and mine.axes
    left, right = Figure().subfigures(1, 2)
    assert one.plot(fig=left) is left and one.plot_corr(fig=right) is right
    axes = Figure().subplots(1, 2)
    assert one.plot(ax=axes[0]) is axes[0] and axes[0].get_lines() and not axes[1].get_lines()
    one.plot(ax=axes[1], curves=False, components=False)
    assert axes[1].get_lines()
    with pytest.raises(vp.InputError, match="both say where"):
        one.plot(ax=axes[0], fig=mine)
    with pytest.raises(vp.InputError, match="ax must be axes of matplotlib, not Figure"):
        one.plot(ax=mine)
    with pytest.raises(vp.InputError, match="fig must be a matplotlib figure, not str"):
        one.plot(fig="fit.png")


def test_a_notebook_shows_a_figure_once(one, monkeypatch):
    shown = []
    display = types.SimpleNamespace(display=lambda data, raw: shown.append(data["image/png"]))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    before = plt.get_fignums()
    fig = one.plot()
    # What pyplot knows `plt.show()` shows, and the end of a cell. What the cell returned it has shown itself.
    assert fig.number in plt.get_fignums()
    fig._ipython_display_()
    assert plt.get_fignums() == before and shown[0].startswith(b"\x89PNG")
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot")
    one.plot_residuals()._ipython_display_()
    assert len(shown) == 2 and "matplotlib.pyplot" not in sys.modules
    plt.close(one.plot_corr(fig=plt.figure()))


def test_drawing_leaves_matplotlib_alone(tmp_path):
    code = (
        "import numpy as np, varpro as vp, matplotlib, sys\n"
        # To read the backend would be to choose one.
        "def now(): return {k: v for k in matplotlib.rcParams if k != 'backend'\n"
        "                   for v in [matplotlib.rcParams[k]]}\n"
        "before = now()\n"
        "x = np.linspace(0, 5, 30)\n"
        "fit = vp.fit(vp.Exp('d', tau=1.0), x, np.exp(-x) + 0.01 * np.cos(9 * x))\n"
        "fit.plot().savefig(sys.argv[1]); fit.plot_residuals(); fit.plot_corr()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert now() == before\n"
    )
    path = tmp_path / "fit.png"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes().startswith(b"\x89PNG")


def lab(colors):
    """CIE L*a*b* of linear RGB (n, 3), white point D65."""
    xyz = colors @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
    )
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 0.008856))
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


# Machado, Oliveira and Fernandes (2009): what a missing kind of cone does to linear RGB.
VISION = {
    "all cones": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("kind", VISION)
def test_colours_can_be_told_apart_by_all_kinds_of_vision(kind):
    srgb = np.array([matplotlib.colors.to_rgb(c) for c in (style.FIT, *style.OTHERS)])
    linear = np.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    seen = lab(np.clip(linear @ np.transpose(VISION[kind]), 0, 1))
    apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    # A difference of 2 is just seen side by side, one of 10 at a glance.
    assert min(apart) > 10


@pytest.mark.parametrize(
    ("size", "count"), [((9.0, 8.0), 6), ((4.3, 3.6), 8), ((9.0, 8.0), 34), ((4.2, 4.2), 60)]
)
def test_names_beside_a_map_of_correlations_do_not_overprint(size, count):
    names = tuple(f"peak_number_{i}.center" for i in range(count))
    fig = Figure(figsize=size, layout="constrained")
    correlations.draw(names, np.eye(count), fig)
    FigureCanvasAgg(fig).draw()
    ax = fig.axes[0]
    beside = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in itertools.pairwise(beside))
    below = ax.get_xticklabels()
    boxes = [label.get_window_extent() for label in below]
    if below[0].get_rotation() == 90:
        assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(boxes))
    else:  # what is across the lines is 1 / sqrt(2) of what is along the axis
        letter = below[0].get_fontsize() * fig.dpi / 72
        assert boxes[1].x1 - boxes[0].x1 >= 1.2 * letter * 2**0.5
    assert {label.get_text() for label in below} <= set(names)
