"""Linear inequalities between nonlinear parameters: against scipy's SLSQP and trust-constr."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from dense_problem import dense

import varpro as vp
from varpro._errors import InputError
from varpro._parameters.inequality import Inequality
from varpro._parameters.layout import build_layout
from varpro.basis import without_names

T = np.linspace(0.0, 12.0, 90)
RNG = np.random.default_rng(2)
Y = 2.0 * np.exp(-T / 1.5) + 1.0 * np.exp(-T / 5.0) + 0.02 * RNG.normal(size=T.size)
MODEL = vp.Exp("a", tau=1.0) + vp.Exp("b", tau=3.0)


def cost(tau):
    phi = np.exp(-T[:, None] / np.asarray(tau))
    return 0.5 * np.sum((Y - phi @ np.linalg.lstsq(phi, Y, rcond=None)[0]) ** 2)


@functools.cache
def unbound():
    """The optimum of lifetimes and amplitudes that knows no inequality."""
    return dense(
        lambda z: z[2] * np.exp(-T / z[0]) + z[3] * np.exp(-T / z[1]), Y, [1.0, 3.0, 2.0, 1.0]
    )


@functools.cache
def least(rows, start):
    """The least cost under `slopes . tau <= limit`, by SLSQP and from there by trust-constr."""
    slopes, limits = np.array([a for a, _ in rows]), np.array([b for _, b in rows])
    given = {"type": "ineq", "fun": lambda v: limits - slopes @ v, "jac": lambda v: -slopes}
    box = [(1e-3, 50.0)] * 2
    first = scipy.optimize.minimize(
        cost,
        start,
        method="SLSQP",
        bounds=box,
        constraints=given,
        options={"ftol": 1e-15, "maxiter": 500},
    )
    linear = scipy.optimize.LinearConstraint(slopes, -np.inf, limits)
    second = scipy.optimize.minimize(
        *(cost, first.x),
        method="trust-constr",
        bounds=box,
        constraints=linear,
        options={"gtol": 1e-12, "xtol": 1e-14, "barrier_tol": 1e-14, "maxiter": 3000},
    )
    return first, second


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a.tau + b.tau <= 6", (((1.0, 1.0), 6.0),)),
        ("1 < b.tau - 2 * a.tau < 1.5", (((2.0, -1.0), -1.0), ((-2.0, 1.0), 1.5))),
    ],
)
def test_the_optimum_under_an_inequality_is_that_of_scipy(text, rows, tmp_path):
    init = {"a.tau": 1.0, "b.tau": 3.2 if "<" in text[:3] else 4.5}
    fit = vp.fit(MODEL, T, Y, init=init, bounds={"*.tau": (1e-3, 50.0)}, inequalities=text)
    first, second = least(rows, (init["a.tau"], init["b.tau"]))
    assert fit.success
    best = min(first.fun, second.fun)
    assert fit.cost == pytest.approx(best, rel=1e-9)
    at = first.x if first.fun <= second.fun else second.x
    # A cost that is flat to 1e-15 places the optimum to some 1e-7 of it.
    np.testing.assert_allclose(fit.alpha, at, rtol=1e-6)
    # It holds as an equality, is said, and is one parameter less.
    free = unbound()
    assert 2 * fit.cost > free.chisq and fit.dof == free.dof + 1
    assert sum(fit.at_bound) == 1 and np.isnan(fit.alpha_stderr).sum() == 1
    (finding,) = (one for one in fit.diagnostics if one.code == "bound")
    assert f"'{text}' holds as an equality" in finding.message
    if "+" not in text:
        return
    fit.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    assert again == fit
    # It holds in refits, too: a.tau goes up no further than scipy lets chi-square stay.
    limits = again.ci(method="profile", names="a.tau")
    for end in (limits.lower[0], limits.upper[0]):
        held = scipy.optimize.minimize_scalar(
            lambda b, end=end: cost([end, b]),
            bounds=(1e-3, 6.0 - end),
            method="bounded",
            options={"xatol": 1e-9},
        )
        rise = 2 * (held.fun - fit.cost) / fit.redchi
        assert rise == pytest.approx(scipy.stats.t.ppf(0.975, fit.dof) ** 2, rel=1e-4)
    # The other one's error is that of a fit whose first parameter follows it.
    i = int(np.flatnonzero(~fit.at_bound)[0])
    slopes, limit = next((a, b) for a, b in rows if abs(np.dot(a, fit.alpha) - b) < 1e-9)
    other = 1 - i

    def taus(z):
        pair = [z[0], (limit - slopes[i] * z[0]) / slopes[other]]
        return pair if i == 0 else pair[::-1]

    tied = dense(
        lambda z: sum(c * np.exp(-T / tau) for c, tau in zip(z[1:], taus(z), strict=True)),
        *(Y, [fit.alpha[i], 2.0, 1.0]),
    )
    np.testing.assert_allclose(fit.alpha, taus(tied.z), rtol=1e-6)
    assert fit.alpha_stderr[i] == pytest.approx(tied.stderr[0], rel=1e-5)


def test_an_inequality_that_is_kept_anyway_changes_nothing():
    free = unbound()
    fit = vp.fit(MODEL, T, Y, inequalities=["a.tau + b.tau <= 10", "b.tau >= a.tau + 0.5"])
    np.testing.assert_allclose(fit.alpha, free.z[:2], rtol=1e-6)
    np.testing.assert_allclose(fit.alpha_stderr, free.stderr[:2], rtol=1e-4)
    assert fit.dof == free.dof and not fit.at_bound.any()
    # What is said of a fit without them is that its amplitudes are correlated.
    assert [one.code for one in fit.diagnostics] == ["correlated"]
    again = vp.fit_many(
        MODEL, T, np.stack([Y, 2 * Y]), inequalities="a.tau + b.tau <= 6", init={"b.tau": 4.0}
    )
    assert again.success.all()
    np.testing.assert_allclose(again.alpha.sum(axis=1), 6.0, rtol=1e-9)


def layout(rules, lower, upper, start, **options):
    params = {
        f"p{i}": vp.Param(s, lower=a, upper=b)
        for i, (s, a, b) in enumerate(zip(start, lower, upper, strict=True))
    }
    return build_layout(params, inequalities=rules, **options)


@eqx.filter_jit
def values_at(found, coordinates, numbers):
    return jax.vmap(lambda d: found.values(d, numbers))(jnp.asarray(coordinates))


def values_of(found, coordinates, numbers):
    with jax.enable_x64(True):
        return np.asarray(values_at(without_names(found), np.atleast_2d(coordinates), numbers))


def test_coordinates_reach_all_of_the_polyhedron_and_nothing_else():
    rules = ["p0 + p1 + p2 <= 2", "p0 - p1 >= -1", "0.2 <= p2 - 0.5 * p0", "p1 + 2 * p2 >= 0.5"]
    lower, upper, start = [0.0, 0.0, -np.inf], [1.0, np.inf, 3.0], [0.3, 0.4, 0.6]
    found, numbers, box = layout(rules, lower, upper, start)
    rows = [one for text in rules for one in Inequality.parse(text, ("p0", "p1", "p2"))]
    a = np.array([[one.slopes.get(f"p{i}", 0.0) for i in range(3)] for one in rows])
    b = np.array([one.limit for one in rows])
    np.testing.assert_allclose(values_of(found, box.start, numbers)[0], start, rtol=1e-12)
    rng = np.random.default_rng(0)
    high = np.where(np.isinf(box.upper), 3.0, box.upper)
    low = np.where(np.isinf(box.lower), -3.0, box.lower)
    drawn = rng.uniform(low, high, (400, 3))
    drawn[::4] = np.where(rng.random((100, 3)) < 0.5, low, high)  # corners, too
    values = values_of(found, drawn, numbers)
    assert np.all(values @ a.T <= b + 1e-12)
    assert np.all(values >= np.array(lower) - 1e-12) and np.all(values <= np.array(upper) + 1e-12)
    # The farthest points in any direction, found by linear programming, have coordinates.
    for direction in rng.normal(size=(6, 3)):
        ends = list(zip(lower, upper, strict=True))
        farthest = scipy.optimize.linprog(-direction, A_ub=a, b_ub=b, bounds=ends).x
        one, own, at = layout(rules, lower, upper, np.clip(farthest, lower, upper))
        assert np.all(at.lower <= at.start) and np.all(at.start <= at.upper)
        np.testing.assert_allclose(values_of(one, at.start, own)[0], farthest, atol=1e-12)


@pytest.mark.parametrize(
    ("rules", "options", "says"),
    [
        ("p0 + p1", {}, "'p0 \\+ p1' is no inequality"),
        ("p0 = p1", {}, "is an equation. Write it as a tie"),
        ("p0 * p1 <= 1", {}, "not linear"),
        ("p0 + q <= 1", {}, "unknown parameter 'q'"),
        ("1 <= 2", {}, "says nothing about a parameter"),
        ("p0 + p1 <= 0.5", {}, "does not hold at the start, p0 = 0.3, p1 = 0.4"),
        ("p0 - p0 <= 1", {}, "says nothing about a parameter"),
        ("0 <= p0 >= 1", {}, "is no inequality"),
        ("p0 + p1 <= 1", {"fix": ["p0", "p1"]}, "speaks of fixed parameters alone"),
        ("p1 <= 3", {"tie": {"p1": "p0 * p2"}}, "not linear. Bound those"),
    ],
)
def test_what_is_no_linear_inequality_is_refused(rules, options, says):
    with pytest.raises(InputError, match=says):
        layout([rules], [-np.inf] * 3, [np.inf] * 3, [0.3, 0.4, 0.5], **options)
    with pytest.raises(InputError, match="must be texts such as"):
        vp.fit(MODEL, T, Y, inequalities=[("a.tau", "b.tau")])


def test_ties_order_and_fixed_parameters_stand_in_inequalities():
    # p1 = 2 p0 + 0.1 and p3 = 0.5: p0 + p1 + p2 <= 1.5 + p3 says 3 p0 + p2 <= 1.9.
    found, numbers, box = layout(
        ["p0 + p1 + p2 <= 1.5 + p3"],
        *([-np.inf] * 4, [np.inf] * 4, [0.2, 0.5, 0.6, 0.5]),
        tie={"p1": "2 * p0 + 0.1"},
        fix=["p3"],
        order=[["p0", "p2"]],
    )
    edge = np.where(np.isinf(box.upper), box.start, box.upper)
    assert len(box.start) == 2
    ends = [box.start, np.maximum(box.lower, 0.0), edge]
    for p in values_of(found, np.stack(ends), numbers):
        assert p[1] == pytest.approx(2 * p[0] + 0.1) and p[3] == 0.5
        assert p[0] + p[1] + p[2] <= 2.0 + 1e-12 and p[0] <= p[2] + 1e-12


def test_an_inequality_between_parameters_of_data_sets_holds_in_each():
    sets = {"r1": (T, Y), "r2": (T, Y[::-1].copy()[::-1] * 1.5)}
    fit = vp.fit(MODEL, sets, share="none", inequalities="a.tau + b.tau <= 6", init={"b.tau": 4.0})
    best = min(least((((1.0, 1.0), 6.0),), (1.0, 4.5)), key=lambda end: end.fun)
    np.testing.assert_allclose(fit.alpha, np.r_[best.x, best.x], rtol=1e-6)
    assert fit.at_bound.sum() == 2
    assert "'r1.a.tau + r1.b.tau <= 6', 'r2.a.tau + r2.b.tau <= 6' hold" in str(fit.diagnostics[0])
