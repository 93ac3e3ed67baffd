"""What a fit shows of itself: print, repr, HTML, tables, criteria."""

import html.parser
import json

import jax.numpy as jnp
import lmfit
import numpy as np
import pandas as pd
import pytest

import varpro as vp
from varpro._statistics.bands import Band
from varpro._statistics.estimate import Estimate
from varpro._text import percent, rounded

T = np.linspace(0.0, 20.0, 120)
NOISE = np.random.default_rng(7).normal(size=(T.size, 4))
CLEAN = 3.0 * np.exp(-T / 1.0) + 2.0 * np.exp(-T / 6.0) + 0.5
Y = CLEAN + 0.02 * NOISE[:, 0]
SIGMA = 0.02 * (1.0 + T / 20.0)
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")


def peaks(count):
    return sum(vp.Gaussian(f"p{i}", center=float(i), width=0.2) for i in range(count))


def ring(theta, t):
    return {"a": jnp.exp((-theta["rate"] + 1j * theta["w"]) * t)}


def full_model(t, tau1, tau2, c1, c2, c3):
    return c1 * np.exp(-t / tau1) + c2 * np.exp(-t / tau2) + c3


@pytest.mark.parametrize("sigma", [None, SIGMA])
def test_criteria_are_those_of_lmfit(sigma):
    weights = None if sigma is None else 1 / sigma
    start = {"tau1": 0.9, "tau2": 6.0, "c1": 3.0, "c2": 2.0, "c3": 0.4}
    ref = lmfit.Model(full_model).fit(Y, t=T, weights=weights, **start)
    fit = vp.fit(MODEL, T, Y, sigma=sigma)
    np.testing.assert_allclose(fit.aic, ref.aic, rtol=1e-9)
    np.testing.assert_allclose(fit.bic, ref.bic, rtol=1e-9)
    np.testing.assert_allclose([fit.chisq, fit.redchi], [ref.chisqr, ref.redchi], rtol=1e-9)
    # Burnham and Anderson's form counts the variance in K throughout: 2 more, for every model.
    n, k = T.size, 6
    theirs = n * np.log(fit.chisq / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    np.testing.assert_allclose(fit.aicc, theirs - 2.0, rtol=1e-12)


def test_criteria_of_absolute_sigma_are_chi_square_and_a_penalty():
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA, absolute_sigma=True)
    np.testing.assert_allclose(fit.aic, fit.chisq + 10.0)
    np.testing.assert_allclose(fit.bic, fit.chisq + 5 * np.log(T.size))
    np.testing.assert_allclose(fit.aicc, fit.aic + 2 * 5 * 6 / (T.size - 6))


def test_every_coefficient_and_only_free_parameters_count():
    assert vp.fit(MODEL, T, np.stack([Y, 2 * Y], axis=1)).num_params == 2 + 2 * 3
    assert vp.fit(MODEL, T, Y, fix="slow.tau").num_params == 4
    y = (2 + 1j) * np.exp((-0.2 + 1.5j) * T) + 0.01 * (NOISE[:, 0] + 1j * NOISE[:, 1])
    fit = vp.fit(ring, T, y, init={"rate": 0.3, "w": 1.4})
    assert (fit.num_params, fit.num_data) == (4, 240)


def test_a_perfect_fit_and_few_data_have_criteria_too():
    x = np.arange(4.0)
    perfect = vp.fit(vp.Constant("c"), x, np.zeros(4))
    assert perfect.chisq == 0 and perfect.aic == perfect.bic == -np.inf
    few = vp.fit(vp.Polynomial("p", degree=2), x, np.array([1.0, 2.0, 0.0, 5.0]))
    assert few.aicc == np.inf and np.isfinite(few.aic)
    assert vp.fit(vp.Polynomial("p", degree=3), x, x**3 + x).aicc == np.inf
    assert json.loads(json.dumps(perfect.to_dict(), allow_nan=False))["aic"] == "-inf"


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (0.69652, 0.01041, ("0.697", "0.010")),
        (0.5, 0.0996, ("0.50", "0.10")),
        (123456.0, 250.0, ("123456", "250")),
        (1.23456e9, 2.5e7, ("1.235e+09", "2.5e+07")),
        (1.23456e-7, 2.5e-10, ("1.2346e-07", "2.5e-10")),
        (-3.0, 40.0, ("-3", "40")),
        (0.0, 0.02, ("0.000", "0.020")),
        (2.0, np.inf, ("2", "inf")),
        (2.0, np.nan, ("2", "")),
        (2.0, 0.0, ("2", "")),
        (np.nan, 0.1, ("nan", "")),
        (1.23456 - 0.004j, 0.012, ("1.235-0.004j", "0.012")),
    ],
)
def test_values_are_rounded_to_the_second_digit_of_their_error(value, stderr, shown):
    assert rounded(value, stderr) == shown


def test_relative_errors_have_two_digits():
    shown = [percent(r) for r in (0.0000123, 0.00999, 0.03, 0.0996, 0.42, 3.0, 42.0, np.inf, 0.0)]
    assert shown == ["0.0012 %", "1.0 %", "3.0 %", "10 %", "42 %", "300 %", "> 1000 %", "", ""]


def test_the_report_has_every_number_in_its_column():
    bounds = {"slow.tau": (1.0, 50.0), "fast.tau": (0.0, np.inf)}
    fit = vp.fit(MODEL, T, Y, bounds=bounds)
    lines = str(fit).splitlines()
    assert lines[0].startswith("varpro fit: converged (")
    for word in (f"{fit.chisq:.6g}", f"AIC {fit.aic:.2f}", f"{fit.dof} degrees of freedom"):
        assert word in str(fit)
    head = next(line for line in lines if line.startswith("  parameter"))
    end = head.index("std. error") + len("std. error")
    for name in (*fit.names, *fit.columns):
        row = next(line for line in lines if line.startswith(f"  {name} "))
        assert row[:end].split() == [name, *fit[name].rounded]
        assert row[end - 1] != " " and row[end : end + 2].strip() == ""
    row = next(line for line in lines if line.startswith("  slow.tau "))
    assert row.split()[-4:] == ["5", "1", "to", "50"]
    assert "fast.tau" in str(fit) and ">= 0" in str(fit)
    assert max(map(len, lines)) <= 100


def test_what_is_special_about_a_parameter_stands_beside_it():
    fit = vp.fit(MODEL, T, Y, bounds={"slow.tau": (1.0, 5.5)})
    assert fit["slow.tau"].notes == ("on its upper bound",)
    assert vp.fit(MODEL, T, Y, fix="fast.tau")["fast.tau"].notes == ("fixed",)
    twins = vp.Gaussian("a", center=5.0, width=1.0) + vp.Gaussian("b", center=12.0, width=1.5)
    y = np.exp(-0.5 * ((T - 5.2) / 1.3) ** 2) + 2 * np.exp(-0.5 * ((T - 12.1) / 1.3) ** 2)
    tied = vp.fit(twins, T, y + 0.01 * NOISE[:, 0], tie={"b.width": "a.width"})
    assert tied["b.width"].notes == ("tied to a.width",)
    same = vp.fit(MODEL, T, Y, init={"*.tau": 3.0}, fix="*.tau")
    assert same["slow"].notes == ("not determined by the data",)
    assert "inf  " in str(same) and "not determined by the data" in str(same)
    many = vp.fit(MODEL, T, np.stack([Y, 2 * Y], axis=1))
    assert many["slow"].notes == ("2 right-hand sides",)
    column, vector = vp.fit(MODEL, T, Y[:, None]), vp.fit(MODEL, T, Y)
    assert str(column).splitlines()[6:] == str(vector).splitlines()[6:]


def test_the_report_stays_short():
    data = CLEAN[:, None] * np.linspace(1, 2, 300) + 0.02 * NOISE[:, [0]]
    assert len(str(vp.fit(MODEL, T, data)).splitlines()) < 30
    x = np.linspace(-1, 50, 600)
    y = np.sum(np.exp(-0.5 * ((x[:, None] - np.arange(50)) / 0.2) ** 2), axis=1)
    fit = vp.fit(peaks(50), x, y + 0.02 * np.random.default_rng(0).normal(size=x.size), max_steps=2)
    assert len(fit.names) == 100
    text = str(fit)
    assert len(text.splitlines()) < 75 and max(map(len, text.splitlines())) < 160
    assert "and 76 more, see to_frame()" in text
    assert len(fit._repr_html_()) < 60_000
    assert len(fit.report(rows=1000).splitlines()) > 150


def test_repr_is_one_line():
    fit = vp.fit(MODEL, T, Y)
    assert "\n" not in repr(fit) and len(repr(fit)) < 200
    assert "Exp (fast, slow) + Constant (bg)" in repr(fit)


def test_a_failed_fit_says_so_first():
    fit = vp.fit(MODEL, T, Y, max_steps=1)
    first, second = str(fit).splitlines()[:2]
    assert "NOT CONVERGED" in first and "limit of 1 steps" in second
    assert "not converged" in repr(fit)


class Balanced(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        assert not {name for name, _ in attrs} - {"style"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_whole_escaped_and_takes_its_colours_from_the_page():
    model = vp.Exp("<script>alert(1)</script>", tau=0.5) + vp.Exp('a&"b"', tau=5.0)
    fit = vp.fit(model, T, Y)
    page = fit._repr_html_()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == [] and "<script" not in page and 'a&"b"' not in page
    assert 'a&"b".tau' in parser.text and "<script>alert(1)</script>" in parser.text
    assert "#" not in page.replace("&#", "") and "color:" not in page.replace("color:inherit", "")
    shown = " ".join(parser.text)
    for number in (f"{fit.chisq:.6g}", *fit['a&"b".tau'].rounded):
        assert number in shown
    assert any("residuals" in word for word in parser.text)  # two decays and no background
    assert "<li>" in page


ODD = {
    "zero data": lambda: vp.fit(vp.Exp("a", tau=3.0), T, np.zeros(T.size)),
    "constant data": lambda: vp.fit(vp.Exp("a", tau=3.0) + vp.Constant("c"), T, np.full(120, 2.0)),
    "zero column": lambda: vp.fit(lambda th, t: {"z": 0 * t, "o": 1 + 0 * t}, T, Y),
    "linear": lambda: vp.fit(vp.Polynomial("p", degree=2), T, Y),
    "no freedom": lambda: vp.fit(MODEL, T[:5], Y[:5]),
    "one value": lambda: vp.fit(vp.Constant("c"), T[:1], Y[:1]),
    "equal": lambda: vp.fit(MODEL, T, Y, init={"*.tau": 3.0}, fix="*.tau"),
    "float32": lambda: vp.fit(MODEL, T.astype(np.float32), Y.astype(np.float32)),
    "complex": lambda: vp.fit(ring, T, Y + 0.5j, init={"rate": 0.3, "w": 1.4}),
    "offset": lambda: vp.fit(MODEL + vp.Offset(vp.Exp("known", tau=9.0)), T, Y),
    "huge": lambda: vp.fit(MODEL, T, 1e150 * Y),
    "two axes": lambda: vp.fit(
        lambda th, x: {"a": x["t"] * th["b"], "o": x["m"][:, 1]},
        {"t": T, "m": NOISE[:, :2]},
        Y,
        init={"b": 1.0},
    ),
    "holes": lambda: vp.fit(MODEL, T, np.where(T > 3, Y, np.nan), nan="drop"),
    "lost": lambda: vp.fit(
        lambda th, t: {"a": jnp.where(th["b"] > 1.0, jnp.nan, jnp.exp(-t * th["b"]))},
        T,
        1e-3 * Y,
        init={"b": 0.999},
        max_steps=3,
    ),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_whatever_came_out_is_shown_and_kept(make, tmp_path):
    fit = make()
    for text in (str(fit), repr(fit), fit._repr_html_()):
        assert "chi-square" in text
    json.dumps(fit.to_dict(), allow_nan=False)
    assert len(fit.to_frame()) == len(fit.names) + fit.coef.size
    assert fit.to_dataset().sizes["sample"] == fit.y.shape[0]
    assert isinstance(fit.diagnostics, tuple)


def test_the_frame_has_one_row_for_each_number():
    fit = vp.fit(MODEL, T, Y, bounds={"slow.tau": (1.0, 50.0)}, fix="fast.tau")
    frame = fit.to_frame()
    assert isinstance(frame, pd.DataFrame) and list(frame["name"]) == [*fit.names, *fit.columns]
    row = frame.set_index("name").loc["slow.tau"]
    one = fit["slow.tau"]
    assert (row["value"], row["stderr"], row["init"]) == (one.value, one.stderr, 5.0)
    assert (row["lower"], row["upper"], row["kind"]) == (1.0, 50.0, "nonlinear")
    assert list(frame["fixed"]) == [True, False, False, False, False]
    many = vp.fit(MODEL, T, np.stack([Y, 2 * Y], axis=1))
    tidy = many.to_frame().set_index(["name", "rhs"])
    for j in range(2):
        assert tidy.loc[("slow", j), "value"] == many.coef[1, j]
        assert tidy.loc[("slow", j), "stderr"] == many.coef_stderr[1, j]
    assert ("slow.tau", -1) in tidy.index


def test_the_dataset_names_every_axis():
    fit = vp.fit(MODEL, T, np.stack([Y, 2 * Y], axis=1), sigma=SIGMA)
    data = fit.to_dataset()
    assert data["components"].dims == ("coefficient", "sample", "rhs")
    np.testing.assert_allclose(data["components"].sum("coefficient"), fit.fitted, rtol=1e-12)
    np.testing.assert_array_equal(data["data"] - data["fitted"], data["residual"])
    np.testing.assert_array_equal(data["coef"].sel(coefficient="slow"), fit.coef[1])
    np.testing.assert_array_equal(data["weight"], fit.weights)
    assert data["value"].sel(parameter="slow.tau") == fit["slow.tau"].value
    assert data.attrs["success"] == 1 and data.attrs["aic"] == fit.aic
    offset = vp.fit(MODEL + vp.Offset(vp.Exp("known", tau=9.0)), T, Y).to_dataset()
    whole = offset["components"].sum("coefficient") + offset["offset"]
    np.testing.assert_allclose(whole, offset["fitted"], rtol=1e-12)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    fit = vp.fit(MODEL, T, Y)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(vp.InputError, match="needs pandas.*pip install pandas"):
        fit.to_frame()


def test_what_a_person_asks_for_is_shown_as_people_write_it():
    slow = Estimate("slow.tau", "nonlinear", 3.98283, 0.1179)
    held = Estimate("irf.width", "nonlinear", 0.1, 0.0, fixed=True)
    spectrum = Estimate("a", "linear", np.array([1.0, 3.5]), np.array([0.1, 0.1]))
    assert (repr(slow), str(slow)) == ("slow.tau = 3.98 +/- 0.12",) * 2
    assert str(held) == "irf.width = 0.1 (fixed)"
    assert str(spectrum) == "a = 1 ... 3.5 (2 right-hand sides)"
    ones = np.ones(3)
    band = Band(ones, ones, ones - [0.1, 0.2, 0.3], ones + [0.1, 0.2, 0.3], 0.95, "confidence")
    assert repr(band) == "95 % confidence band of 3 values: +/- 0.1 to 0.3"
    lost = Band(ones, np.inf * ones, -np.inf * ones, np.inf * ones, 0.9, "prediction")
    assert str(lost) == "90 % prediction band of 3 values, not determined by the data"
