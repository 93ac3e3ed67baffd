"""Derived quantities against the delta method by hand, lmfit's numbers, replicates, and themselves."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

import varpro as vp

X = np.linspace(0.0, 10.0, 160)
LINE = vp.Gaussian("b", center=6.3, width=0.6) + vp.Constant("c")
MODEL = vp.PseudoVoigt("a", center=3.1, width=0.4) + LINE
ASKED = {
    "ratio": "a.area / b.area",
    "split": "b.center - a.center",
    "wide": "a.fwhm",
    "f": "a.fwhm * pi",
}


def curves(rng, k, height=2.0):
    u = ((X - 3.0) / 0.45) ** 2
    first = 0.5 / (1 + u) + 0.5 * 2.0**-u
    clean = height * first + 1.3 * np.exp(-0.5 * ((X - 6.1) / 0.7) ** 2) + 0.1
    return clean + 0.02 * rng.normal(size=(k, X.size))


def by_differences(fit, g, names):
    """Value and error of g(values by name) by central differences and the covariance of `names`."""
    at = {n: fit[n].value for n in names}
    cov = fit.covariance_of(names)
    slope = []
    for name in names:
        h = 1e-5 * abs(at[name])
        slope.append((g(at | {name: at[name] + h}) - g(at | {name: at[name] - h})) / (2 * h))
    slope = np.array(slope)
    return g(at), np.sqrt(slope @ cov @ slope)


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(5)
    y = curves(rng, 4)
    return y, vp.fit(MODEL, X, y[0], derived=ASKED), vp.fit_many(MODEL, X, y)


def test_one_fit(many, tmp_path):
    y, fit, _ = many
    names = ["a", "a.width", "a.eta", "b", "b.width"]

    def ratio(v):
        shape = v["a.eta"] * np.pi + (1 - v["a.eta"]) * np.sqrt(np.pi / np.log(2))
        return v["a"] * v["a.width"] * shape / (v["b"] * v["b.width"] * np.sqrt(2 * np.pi))

    value, error = by_differences(fit, ratio, names)
    np.testing.assert_allclose(fit["ratio"].value, value, rtol=1e-10)
    np.testing.assert_allclose(fit["ratio"].stderr, error, rtol=1e-6)
    cov = fit.covariance_of(["b.center", "a.center"])
    np.testing.assert_allclose(
        fit["split"].stderr ** 2, cov[0, 0] + cov[1, 1] - 2 * cov[0, 1], rtol=1e-9
    )
    joint = fit.derived
    np.testing.assert_allclose(joint.correlation[2, 3], 1.0, rtol=1e-9)
    np.testing.assert_allclose(joint.stderr[3], np.pi * joint.stderr[2], rtol=1e-9)
    # The same numbers as parameters and coefficients have.
    own = fit.derive(["a.center", "b", "c"])
    assert own.names == ("a.center", "b", "c")
    np.testing.assert_allclose(own.covariance, fit.covariance_of(["a.center", "b", "c"]), rtol=1e-9)
    function = fit.derive(lambda p: {"z": p["a.area"] / p["b.area"], "log": jnp.log(p["b.width"])})
    assert tuple(function) == ("z", "log") and len(function) == 2
    np.testing.assert_allclose(function.value[0], fit["ratio"].value, rtol=1e-12)
    np.testing.assert_allclose(function["log"].stderr, fit["b.width"].relative, rtol=1e-9)
    assert float(fit.derive("a.area / b.area")) == pytest.approx(fit["ratio"].value, rel=1e-12)
    interval, half = joint.ci(0.9)["split"], fit.ci(0.9, names="b.width")["b.width"]
    t = (half.upper - half.value) / fit["b.width"].stderr
    np.testing.assert_allclose(interval.upper - interval.value, t * fit["split"].stderr, rtol=1e-9)
    # Percentiles of replicates, which the delta method meets where a curve is nearly linear: 600 of them
    # know a standard deviation to 3 %, and the 16th and 84th percentile stand one away to 8 %.
    drawn = fit.bootstrap(600, key=1).derive(ASKED, level=0.6827)
    np.testing.assert_allclose(drawn.value, joint.value, rtol=1e-12)
    np.testing.assert_allclose((drawn.upper - drawn.lower) / 2, joint.stderr, rtol=0.25)
    # Where results are shown and kept.
    assert "ratio" in fit and "derived" in str(fit) and "ratio" in fit._repr_html_()
    frame = fit.to_frame().set_index("name")
    assert (
        frame.loc["ratio", "kind"] == "derived"
        and frame.loc["ratio", "stderr"] == fit["ratio"].stderr
    )
    assert fit.to_dict()["derived"]["wide"] == {
        "value": fit["wide"].value,
        "stderr": fit["wide"].stderr,
    }
    assert fit.to_dataset()["derived_value"].sel(derived="ratio").item() == fit["ratio"].value
    chain = fit.derive({"q": "a.area / b.area", "twice": "2 * q"})
    np.testing.assert_allclose(chain["twice"].stderr, 2 * fit["ratio"].stderr, rtol=1e-9)
    with pytest.raises(vp.InputError, match="twice"):
        fit.derive({"q": "2 * twice", "twice": "a.area"})
    fit.save(tmp_path / "fit.nc")
    assert vp.load(tmp_path / "fit.nc").equals(fit)


def test_area_and_width_of_a_voigt_peak(rng):
    from scipy.optimize import brentq
    from scipy.special import voigt_profile

    y = 2.0 * voigt_profile(X - 3.0, 0.35, 0.25) + 0.02 * rng.normal(size=X.size)
    fit = vp.fit(vp.Voigt("v", center=3.1, sigma=0.4, gamma=0.2), X, y)
    found = fit.derive(["v.area", "v.fwhm"])

    def area(v):
        return v["v"] / voigt_profile(0.0, v["v.sigma"], v["v.gamma"])

    def width(v):
        def above(u):
            return voigt_profile(u, *shape) / voigt_profile(0.0, *shape) - 0.5

        shape = v["v.sigma"], v["v.gamma"]
        return 2 * brentq(above, 0.1, 2.0, xtol=1e-15, rtol=1e-15)

    for name, g, names in (("v.area", area, ["v"]), ("v.fwhm", width, [])):
        value, error = by_differences(fit, g, [*names, "v.sigma", "v.gamma"])
        np.testing.assert_allclose(found[name].value, value, rtol=1e-10)
        np.testing.assert_allclose(found[name].stderr, error, rtol=1e-6)


def test_right_hand_sides_data_sets_and_batches(many):
    y, fit, batch = many
    sides = vp.fit(MODEL, X, y.T, derived=ASKED)
    assert np.shape(sides["ratio"].value) == (4,) and np.ndim(sides["split"].value) == 0
    by_hand = sides["a"].value / sides["b"].value
    areas = sides.derive(["a.area", "a", "b.area", "b"]).value
    np.testing.assert_allclose(
        sides["ratio"].value / by_hand, areas[0] / areas[1] / (areas[2] / areas[3])
    )
    assert len(sides.to_frame().query("name == 'ratio'")) == 4
    # Two halves of one curve, with all nonlinear parameters shared, are that curve: of the amplitude of one
    # set over that of the other the error is that of two independent ones beside what they share.
    sets = {"one": (X[::2], y[0][::2]), "two": (X[1::2], y[0][1::2])}
    both = vp.fit(
        MODEL,
        sets,
        derived={"r": "one.a.area / two.a.area", "w": "a.width", "d": "one.b - two.b"},
    )
    singles = [both.sets[key].derive(["b"]) for key in sets]
    assert both["r"].stderr > 0 and both["w"].value == both["a.width"].value
    np.testing.assert_allclose(both["w"].stderr, both["a.width"].stderr, rtol=1e-9)
    assert both["d"].stderr < np.hypot(*(one.stderr[0] for one in singles))  # they share parameters
    assert "derived" in str(both) and "derived" in both.to_dict()
    # The numbers of a batch are those of its curves alone.
    maps = batch.derive(ASKED)
    assert maps.value.shape == (4, 4)
    for i, name in enumerate(ASKED):
        np.testing.assert_allclose(maps.value[i, 0], fit[name].value, rtol=1e-5)
        np.testing.assert_allclose(maps.stderr[i, 0], fit[name].stderr, rtol=2e-3)
    with_maps = batch.with_derived(["*.area"])
    assert "a.area" in str(with_maps) and "b.area_stderr" in with_maps.to_dataset()
    sigma, what = 0.02 * (1 + X / 10), {"area": "b.area", "wide": "b.fwhm", "f": "b.fwhm * pi"}
    y = curves(np.random.default_rng(6), 4, height=0.0)
    weighted = vp.fit_many(LINE, X, y, sigma=sigma)
    alone = vp.fit(LINE, X, y[1], sigma=sigma).derive(what)
    with pytest.raises(vp.InputError, match="equal weight"):
        weighted.derive(what)
    np.testing.assert_allclose(
        weighted.derive(what, sigma=sigma).stderr[:, 1], alone.stderr, rtol=2e-3
    )


def test_two_data_sets_against_one_matrix(rng):
    # y = a exp(-x / tau) in two sets with one tau: the joint covariance of (tau, a1, a2) by the dense Jacobian.
    x, tau, a = np.linspace(0, 5, 60), 1.7, (2.0, 3.0)
    y = [c * np.exp(-x / tau) + 0.05 * rng.normal(size=x.size) for c in a]
    fit = vp.fit(vp.Exp("d", tau=1.0), {"p": (x, y[0]), "q": (x, y[1])}, derived="q.d / p.d")
    t, c = fit["d.tau"].value, [fit[f"{k}.d"].value for k in "pq"]
    e = np.exp(-x / t)
    zero = np.zeros_like(e)
    jac = np.stack(
        [np.r_[c[0] * e * x, c[1] * e * x] / t**2, np.r_[e, zero], np.r_[zero, e]], axis=1
    )
    cov = np.linalg.inv(jac.T @ jac) * fit.redchi
    g = np.array([0.0, -c[1] / c[0] ** 2, 1 / c[0]])
    assert fit.derived is not None
    (one,) = fit.derived
    np.testing.assert_allclose(fit[one].value, c[1] / c[0], rtol=1e-12)
    np.testing.assert_allclose(fit[one].stderr, np.sqrt(g @ cov @ g), rtol=1e-6)


def test_decays_and_waves(rng):
    x = np.linspace(0.0, 12.0, 240)
    y = (
        2 * np.exp(-x / 0.8)
        + np.exp(-x / 4.0)
        + 0.7 * np.exp(-x / 5) * np.cos(2 * np.pi * 0.9 * x + 0.6)
    )
    y = y + 0.01 * rng.normal(size=x.size)
    model = vp.Exp("u", tau=1.0) + vp.Exp("v", rate=0.2) + vp.Oscillation("o", freq=0.9, tau=4.0)
    fit = vp.fit(model, x, y)
    names = ["u", "u.tau", "v", "v.rate", "o.cos", "o.sin"]
    expected = {
        "u.fraction": lambda p: p["u"] / (p["u"] + p["v"]),
        "v.intensity_fraction": lambda p: (
            p["v"] / p["v.rate"] / (p["v"] / p["v.rate"] + p["u"] * p["u.tau"])
        ),
        "lifetime.amplitude_mean": lambda p: (
            (p["u"] * p["u.tau"] + p["v"] / p["v.rate"]) / (p["u"] + p["v"])
        ),
        "lifetime.intensity_mean": lambda p: (
            (p["u"] * p["u.tau"] ** 2 + p["v"] / p["v.rate"] ** 2)
            / (p["u"] * p["u.tau"] + p["v"] / p["v.rate"])
        ),
        "v.half_life": lambda p: np.log(2) / p["v.rate"],
        "o.amplitude": lambda p: np.hypot(p["o.cos"], p["o.sin"]),
        "o.phase": lambda p: np.arctan2(-p["o.sin"], p["o.cos"]),
    }
    found = fit.derive(list(expected))
    for name, g in expected.items():
        value, error = by_differences(fit, g, names)
        np.testing.assert_allclose(found[name].value, value, rtol=1e-9)
        np.testing.assert_allclose(found[name].stderr, error, rtol=1e-5)
    assert abs(found["o.phase"].value - 0.6) < 4 * found["o.phase"].stderr
    wave = 1.5 * np.exp((2j * np.pi * 0.9 - 0.2) * x + 0.6j) + 0.02 * (
        rng.normal(size=x.size) + 1j * rng.normal(size=x.size)
    )
    line = vp.fit(vp.ComplexExp("w", freq=0.9, rate=0.3), x, wave)
    cov = line.covariance_of("w")  # real and imaginary part
    c = line["w"].value
    got = line.derive(["w.amplitude", "w.phase", "w.fwhm"])
    g = np.array([c.real, c.imag]) / abs(c)
    np.testing.assert_allclose(got["w.amplitude"].stderr, np.sqrt(g @ cov @ g), rtol=1e-8)
    g = np.array([-c.imag, c.real]) / abs(c) ** 2
    np.testing.assert_allclose(got["w.phase"].stderr, np.sqrt(g @ cov @ g), rtol=1e-8)
    np.testing.assert_allclose(got["w.fwhm"].value, line["w.rate"].value / np.pi, rtol=1e-12)


def test_bounds_and_what_the_data_leave_open(rng):
    y = np.exp(-X / 2.0) + 0.01 * rng.normal(size=X.size)
    # Twice the same column: the sum of the amplitudes is known where neither is.
    twice = vp.fit(vp.Exp("p", tau=2.0) + vp.Exp("q", tau=2.0), X, y, fix=["*.tau"])
    found = twice.derive({"sum": "p + q", "difference": "p - q"})
    assert np.isinf(found["difference"].stderr) and np.isinf(twice["p"].stderr)
    once = vp.fit(vp.Exp("p", tau=2.0), X, y, fix=["*.tau"])
    np.testing.assert_allclose(found["sum"].value, once["p"].value, rtol=1e-9)
    np.testing.assert_allclose(found["sum"].stderr, once["p"].stderr, rtol=0.01)  # one degree less
    held = vp.fit(vp.Exp("p", tau=vp.Param(2.5, lower=2.3)), X, y)
    got = held.derive({"area": "p.integral", "rate": "p.rate"})
    assert held["p.tau"].at_bound and np.isnan(got["rate"].stderr)
    np.testing.assert_allclose(got["area"].stderr, 2.3 * held["p"].stderr, rtol=1e-9)


def test_areas_in_relation(rng):
    """A doublet of area ratio 1:2 whose lines have widths of their own, as one model written by hand."""
    x = np.linspace(0.0, 10.0, 200)

    def line(c, s):
        return np.exp(-0.5 * ((x - c) / s) ** 2) / (s * np.sqrt(2 * np.pi))

    y = 40 * line(3.5, 0.4) + 20 * line(6.0, 0.8) + 0.3 * rng.normal(size=x.size)
    parts = [
        vp.Gaussian(n, center=c, width=0.5, coefficient="area") for n, c in (("p", 3.4), ("q", 6.1))
    ]
    fit = vp.fit(
        parts[0] + parts[1], x, y, relations={"q": {"p": 0.5}}, derived=["*.area", "*.height"]
    )

    def left(v):
        return v[4] * (line(v[0], v[1]) + 0.5 * line(v[2], v[3])) - y

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    best = least_squares(left, [3.4, 0.5, 6.1, 0.5, 40.0], x_scale="jac", jac="3-point", **tight)
    names = ["p.center", "p.width", "q.center", "q.width", "p"]
    error = np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac)) * 2 * best.cost / (x.size - 5))
    np.testing.assert_allclose(fit.chisq, 2 * best.cost, rtol=1e-9)
    np.testing.assert_allclose([fit[name].value for name in names], best.x, rtol=1e-6)
    np.testing.assert_allclose([fit[name].stderr for name in names], error, rtol=1e-4)
    np.testing.assert_allclose(fit["q.area"].value, 0.5 * fit["p.area"].value, rtol=1e-12)
    np.testing.assert_allclose(fit["q.area"].stderr, 0.5 * fit["p"].stderr, rtol=1e-9)
    heights = vp.fit(
        vp.Gaussian("p", center=3.4, width=0.5) + vp.Gaussian("q", center=6.1, width=0.5),
        *(x, y),
        relations={"q": {"p": 0.5}},
    )
    assert heights.chisq > 1.5 * fit.chisq
    with pytest.raises(vp.InputError, match="Give the peak coefficient='area'"):
        vp.fit(parts[0] + parts[1], x, y, relations={"q.area": {"p": 0.5}})


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("a.aera / 2", "Did you mean 'a.area'"),
        ({"a": "b.area"}, "is the name of a number of the model"),
        ({"q": 3}, "expected a text"),
        ([3], "expected an expression"),
        ("__import__('os')", "no function|cannot be read"),
        (["x.*"], "no parameter matches"),
        ("a.area ^ 2", "cannot be read"),
    ],
)
def test_what_cannot_be_derived_is_refused_before_anything_is_fitted(what, says):
    with pytest.raises(vp.InputError, match=says):
        vp.fit(MODEL, X, X, derived=what)


def test_functions_that_give_no_number_are_refused(many):
    _, fit, batch = many
    for function, says in (
        (lambda p: p["nothing"], "No number 'nothing'"),
        (lambda p: jnp.ones(3), "must be one number"),
        (lambda p: p["a"] * 1j, "is complex"),
        (lambda p: {}, "nothing is asked for"),
        (lambda p: "text", "must be a number"),
    ):
        with pytest.raises(vp.InputError, match=says):
            fit.derive(function)
    with pytest.raises(vp.InputError, match="take one by its name"):
        float(fit.derived)
    with pytest.raises(vp.InputError, match="not both"):
        batch.derive("a.area", sigma=1.0, weights=1.0)


def test_starts_of_the_other_shapes_are_found(rng):
    """Each against a fit from the truth, by scipy: the least sum of squares of all parameters together."""
    x = np.linspace(-5.0, 10.0, 150)
    shapes: list[tuple[vp.AbstractBasis, dict[str, float]]] = [
        (vp.DoniachSunjic("s"), {"center": 2.2, "width": 0.6, "alpha": 0.2}),
        (vp.GaussLorentz("s"), {"center": 2.2, "width": 0.9, "mix": 0.5}),
        (vp.LorentzianPowers("s"), {"center": 2.2, "width": 0.7, "low": 1.6, "high": 0.9}),
        (vp.Step("s", shape="arctan"), {"center": 2.2, "width": 0.5}),
    ]
    for shape, truth in shapes:

        def curve(v, shape=shape, keys=tuple(truth)):
            arrays = {k: np.array([v[i]]) for i, k in enumerate(keys)}
            return v[-2] * shape.evaluate(x, arrays)[:, 0] + v[-1]

        at = np.array([*truth.values(), 3.0, 0.5])
        y = curve(at) + 0.02 * rng.normal(size=x.size)
        fit = vp.fit(shape + vp.Constant("c"), x, y)
        best = least_squares(lambda v, y=y, curve=curve: curve(v) - y, at, xtol=1e-12, ftol=1e-12)
        assert fit.success
        np.testing.assert_allclose(fit.chisq, 2 * best.cost, rtol=1e-6)
        for i, name in enumerate(truth):
            one = fit[f"s.{name}"]
            assert abs(one.value - best.x[i]) < 0.01 * one.stderr
