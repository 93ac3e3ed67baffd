"""Every line shape: its numbers against quadrature and a root finder, its derivatives against differences."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import varpro as vp

# A shape, values of its parameters beside the centre.
SHAPES = [
    (vp.Gaussian, {"width": 0.7}),
    (vp.Gaussian, {"fwhm": 1.3}),
    (vp.Lorentzian, {"width": 0.7}),
    (vp.Voigt, {"sigma": 0.5, "gamma": 0.3}),
    (vp.Voigt, {"sigma": 0.02, "gamma": 0.6}),
    (vp.Voigt, {"sigma": 0.6, "gamma": 1e-4}),
    (vp.PseudoVoigt, {"width": 0.7, "eta": 0.3}),
    (vp.Pearson7, {"fwhm": 1.3, "shape": 1.7}),
    (vp.GaussLorentz, {"width": 0.7, "mix": 0.4}),
    (vp.GaussLorentz, {"width": 0.7, "mix": 1e-6}),
    (vp.GaussLorentz, {"fwhm": 1.3, "mix": 1.0}),
    (vp.LorentzianPowers, {"width": 0.7, "low": 1.6, "high": 0.9}),
    (vp.DoniachSunjic, {"width": 0.5, "alpha": 0.25}),
    (vp.DoniachSunjic, {"width": 0.5, "alpha": 0.0}),
]
CENTER = 1.3
NONE_SUCH: Any = 3
FLAT: Any = [1.0, 2.0]
# In no order: the losses sort for themselves.
X = np.random.default_rng(3).permutation(np.linspace(-4.0, 6.0, 41))


def made(kind, values, **settings):
    return kind("p", center=CENTER, **values, **settings)


def on_host(peak, x, values):
    arrays = {k: np.array([v]) for k, v in values.items()}
    return peak.evaluate(np.atleast_1d(np.asarray(x, float)), arrays)[:, 0]


def described(peak, values, coef):
    """A function of all numbers (s,) that reports, and where to take it."""
    keys = list(values)

    def all_of(v):
        own = peak.reported(dict(zip(keys, v[:-1], strict=True)), [v[-1]]).own
        return {k: jnp.asarray(one) for k, one in own.items()}

    return all_of, np.array([*values.values(), coef])


def drawn(peak, values):
    """A function of all values that draws the column at `X`, and where to take it."""
    keys = list(values)
    return (
        lambda v: peak.evaluate(jnp.asarray(X), {k: v[i] for i, k in enumerate(keys)})[:, 0],
        np.array([*values.values()]),
    )


def with_slopes(pairs, alike=None):
    """Values and derivatives of many functions, by one program; see `by_one_program`."""

    def both(function, v):
        slopes, value = jax.jacfwd(lambda v: (function(v),) * 2, has_aux=True)(v)
        return value, slopes

    return by_one_program(both, pairs, alike)


def by_one_program(what, pairs, alike=None):
    """`what` of each function and point. Those with one name in `alike` are one function, which is traced once
    and mapped over its points."""
    members = {}
    for i in range(len(pairs)):
        members.setdefault(i if alike is None else alike[i], []).append(i)
    at = [np.stack([pairs[i][1] for i in group]) for group in members.values()]

    def mapped(function, points):
        if len(points) == 1:
            return jax.tree.map(lambda a: jnp.asarray(a)[None], what(function, points[0]))
        return jax.vmap(lambda v: what(function, v))(points)

    with jax.enable_x64(True):
        functions = [pairs[group[0]][0] for group in members.values()]
        made = jax.jit(lambda at: [mapped(f, v) for f, v in zip(functions, at, strict=True)])(at)
    made = jax.tree.map(np.asarray, made)
    place = {i: (g, j) for g, group in enumerate(members.values()) for j, i in enumerate(group)}
    return [
        jax.tree.map(lambda a, j=j: a[j], made[g])
        for g, j in map(place.__getitem__, range(len(pairs)))
    ]


@functools.cache
def all_numbers():
    """What every shape reports at a coefficient of 2, with derivatives; and for the area as coefficient."""
    values = [{"center": CENTER, **own} for _, own in SHAPES]
    pairs = [
        described(made(kind, own), v, 2.0) for (kind, own), v in zip(SHAPES, values, strict=True)
    ]
    found = with_slopes(pairs, [(kind, *own) for kind, own in SHAPES])
    again, names = [], []
    for (kind, own), v, (one, _) in zip(SHAPES, values, found, strict=True):
        if kind.integrable:
            again.append(described(made(kind, own, coefficient="area"), v, float(one["area"])))
            names.append((kind, *own))
    areas = iter(by_one_program(lambda function, v: function(v), again, names))
    return [
        (*one, next(areas) if kind.integrable else None)
        for (kind, _), one in zip(SHAPES, found, strict=True)
    ]


@pytest.mark.parametrize("i", range(len(SHAPES)))
def test_area_and_width_are_those_of_the_curve(i):
    kind, own = SHAPES[i]
    values, peak = {"center": CENTER, **own}, made(kind, own)
    found, slopes, again = all_numbers()[i]
    least: Any = scipy.optimize.minimize_scalar(
        lambda t: -on_host(peak, t, values)[0], bracket=(0.5, 1.3, 2.1), tol=1e-12
    )
    top = least.x
    assert abs(on_host(peak, top, values)[0] - 1.0) < 1e-9  # unit height

    def width(values):
        def below(t):
            return on_host(peak, t, values)[0] - 0.5

        far: Any = [scipy.optimize.brentq(below, top, top + d, xtol=1e-13) for d in (-30.0, 30.0)]
        return far[1] - far[0]

    np.testing.assert_allclose(found["fwhm"], width(values), rtol=1e-9)
    assert found["height"] == 2.0

    def area(values):
        parts = (CENTER, CENTER + 3.0, CENTER + 30.0, np.inf, CENTER - 3.0, CENTER - 30.0, -np.inf)
        pairs = [(0, 1), (1, 2), (2, 3), (4, 0), (5, 4), (6, 5)]
        return sum(
            scipy.integrate.quad(
                lambda t: on_host(peak, t, values)[0], parts[a], parts[b], epsabs=1e-12, limit=300
            )[0]
            for a, b in pairs
        )

    assert ("area" in found) == kind.integrable
    if kind.integrable:
        np.testing.assert_allclose(found["area"], 2.0 * area(values), rtol=1e-7)
        unit = made(kind, own, coefficient="area")
        x = np.linspace(-3.0, 5.0, 9)
        both = on_host(unit, x, values) * float(found["area"]), 2.0 * on_host(peak, x, values)
        np.testing.assert_allclose(*both, rtol=1e-12)
        np.testing.assert_allclose(again["height"], 2.0, rtol=1e-12)
    # Derivatives by central differences of the root finder and the quadrature; 1e-5 is what steps of 1e-4
    # of a number leave.
    for j, key in enumerate(own, start=1):
        h = 1e-4 * own[key]
        if own[key] in (0.0, 1.0, 1e-6):
            continue  # the ends of an interval
        ends = [values | {key: own[key] + s * h} for s in (1, -1)]
        slope = (width(ends[0]) - width(ends[1])) / (2 * h)
        scale = width(values) / own[key]
        assert abs(slopes["fwhm"][j] - slope) < 1e-5 * scale
        if kind.integrable:
            slope = 2.0 * (area(ends[0]) - area(ends[1])) / (2 * h)
            assert abs(slopes["area"][j] - slope) < 1e-5 * abs(2 * area(values) / own[key])


EXTRA = [
    {"lines": [(0.0, 1.0), (1.1, 0.5)]},
    {"wavelengths": [(1.540593, 1.0), (1.544427, 0.5)], "coefficient": "area"},
    {"loss": vp.Shirley("loss", k=0.05)},
    {"loss": vp.Tougaard("loss", b=2.0, c=3.0, towards="low")},
]


CASES = [
    *((kind, own, {}) for kind, own in SHAPES if 1e-6 not in own.values()),
    *((vp.Voigt, {"sigma": 0.5, "gamma": 0.3}, extra) for extra in EXTRA),
    *((vp.Step, {"width": 0.6}, {"shape": shape}) for shape in ("erf", "arctan", "logistic")),
]


def case(i):
    kind, own, extra = CASES[i]
    values = {"center": CENTER, **own}
    if kind is vp.DoniachSunjic and own["alpha"] == 0.0:
        values["alpha"] = 1e-3
    loss = extra.get("loss")
    if loss is not None:
        values |= {name: param.init for name, param in loss.parameters.items()}
    return kind("p", **{k: v for k, v in values.items() if "." not in k}, **extra), values


@functools.cache
def all_columns():
    alike = [(kind, *own, str(extra)) for kind, own, extra in CASES]
    return with_slopes([drawn(*case(i)) for i in range(len(CASES))], alike)


@pytest.mark.parametrize("i", range(len(CASES)))
def test_columns_and_their_derivatives(i):
    (peak, values), x = case(i), X
    keys, (found, slopes) = list(values), all_columns()[i]
    np.testing.assert_allclose(found, on_host(peak, x, values), rtol=1e-11, atol=1e-13)
    for j, key in enumerate(keys):
        h = 1e-5 * max(abs(values[key]), 0.1)
        if key in ("eta", "mix") and values[key] == 1.0:
            continue
        ends = [on_host(peak, x, values | {key: values[key] + s * h}) for s in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * h)
        # A sample at the corner of LorentzianPowers has no derivative by its centre.
        np.testing.assert_allclose(
            slopes[:, j], expected, rtol=1e-5, atol=1e-7 * np.ptp(found) / 0.1
        )


def test_lines_and_losses_are_what_they_say():
    x = np.linspace(-6.0, 9.0, 600)
    own = {"sigma": 0.4, "gamma": 0.2}
    values = {"center": CENTER, **own}

    def at(center):
        return on_host(made(vp.Voigt, own), x, values | {"center": center})

    two = made(vp.Voigt, own, lines=[(0.0, 1.0), (1.1, 0.5)])
    np.testing.assert_allclose(
        on_host(two, x, values), at(CENTER) + 0.5 * at(CENTER + 1.1), rtol=1e-12
    )
    (one, _), (both, _) = with_slopes(
        [described(made(vp.Voigt, own), values, 1.0), described(two, values, 1.0)]
    )
    np.testing.assert_allclose(
        [both["area"], both["fwhm"]], [1.5 * one["area"], one["fwhm"]], rtol=1e-12
    )
    # Bragg: the second line of copper K-alpha beside 2 theta = 100 degrees.
    copper = vp.Gaussian(
        "g", center=100.0, width=0.05, wavelengths=[(1.540593, 1.0), (1.544427, 0.5)]
    )
    place = 2 * np.degrees(np.arcsin(1.544427 / 1.540593 * np.sin(np.radians(50.0))))
    angle = np.linspace(99.5, 101.0, 3001)
    curve = on_host(copper, angle, {"center": 100.0, "width": 0.05})
    second = angle[1500 + np.argmax(curve[1500:])] if curve[1500:].max() > 0.3 else angle[0]
    assert (
        abs(angle[angle > 100.2][np.argmax(curve[angle > 100.2])] - place) < 1e-3 and second > 100
    )
    # Of the whole area beyond the peak, a Gaussian whose flanks end inside.
    width, k = 0.4, 0.07
    for towards, end in (("high", -1), ("low", 0)):
        peak = vp.Gaussian("g", loss=vp.Shirley("s", k=k, towards=towards))
        column = on_host(peak, x, {"center": CENTER, "width": width, "s.k": k})
        np.testing.assert_allclose(column[end], k * width * np.sqrt(2 * np.pi), rtol=1e-9)
        assert abs(column[-1 - end if end else -1]) < 1e-9
    # Tougaard's integral by quadrature.
    b, c = 1.7, 2.5
    peak = vp.Gaussian("g", loss=vp.Tougaard("t", b=b, c=c))
    column = on_host(peak, x, {"center": CENTER, "width": width, "t.b": b, "t.c": c})

    def line(t):
        return np.exp(-0.5 * ((t - CENTER) / width) ** 2)

    for i in (300, 450, 599):
        lost = scipy.integrate.quad(
            lambda t, e=x[i]: line(t) * b * (e - t) / (c + (e - t) ** 2) ** 2,
            CENTER - 4,
            min(x[i], CENTER + 4),
        )[0]
        np.testing.assert_allclose(column[i], line(x[i]) + lost, rtol=2e-4)  # trapezoids of 0.025


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: vp.Gaussian("a", coefficient="volume"), "coefficient is 'height' or 'area'"),
        (lambda: vp.DoniachSunjic("a", coefficient="area"), "has no area"),
        (lambda: vp.DoniachSunjic("a", towards="up"), "towards is 'high' or 'low'"),
        (lambda: vp.Voigt("a", lines=FLAT), "pairs of a place and a ratio"),
        (lambda: vp.Voigt("a", lines=[(0, 1)], wavelengths=[(1, 1)]), "lines or wavelengths"),
        (lambda: vp.Voigt("a", wavelengths=[(-1.5, 1)]), "wavelengths are positive"),
        (lambda: vp.Voigt("a", loss=NONE_SUCH), "loss is a vp.Shirley"),
        (lambda: vp.Step("a", shape="ramp"), "shape is one of"),
        (lambda: vp.Shirley("a", towards="left"), "'high' on an axis of binding energies"),
    ],
)
def test_what_no_peak_can_have_is_refused(wrong, says):
    with pytest.raises(vp.InputError, match=says):
        wrong()


def test_saved_shapes_keep_their_settings():
    peak = vp.Voigt("a", lines=[[0, 1], [1.1, 0.5]], loss=vp.Shirley("s"))
    assert peak.lines == ((0.0, 1.0), (1.1, 0.5)) and not peak.rowwise and vp.Voigt("a").rowwise
    assert {f.name for f in dataclasses.fields(peak)} >= {
        "lines",
        "wavelengths",
        "loss",
        "coefficient",
    }
