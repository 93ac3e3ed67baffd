"""The published problems in separable form, and the way back to the published parameters.

Shared by `test_published.py` and `scripts/bench/certified.py`. No model is made anew for a start, so
all starts of a problem run in one compiled program.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
import oracles

import varpro as vp

ROOT2 = np.sqrt(2.0)
FREE = vp.Param()


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to write a problem.

    - `full(b, x)`: the model as published, at published parameters b.
    - `model`: the separable one, without starts.
    - `start(b)`: starts of its nonlinear parameters by name, from published ones.
    - `back(v)`: published parameters, from fitted values by name.
    - `x_powers`: with x in units of s, the parameters by name grow by `s ** power`. None if the
        model has a length of its own.
    """

    full: Callable
    model: vp.AbstractBasis | Callable
    start: Callable[[np.ndarray], dict[str, float]]
    back: Callable[[Mapping[str, float]], list[float]]
    x_powers: Mapping[str, int] | None = None


def quotient(numerator: int, denominator: int) -> Form:
    """Polynomial over polynomial, 1 + ... below: linear above, nonlinear below."""
    names = [f"q{i + 1}" for i in range(denominator)]
    above, below = slice(numerator + 1), slice(numerator + 1, None)

    def columns(theta, x):
        divisor = 1.0 + sum(theta[q] * x ** (i + 1) for i, q in enumerate(names))
        return {f"p{i}": x**i / divisor for i in range(numerator + 1)}

    def full(b, x):
        top = sum(c * x**i for i, c in enumerate(b[above]))
        return top / (1.0 + sum(c * x ** (i + 1) for i, c in enumerate(b[below])))

    return Form(
        full,
        columns,
        lambda b: dict(zip(names, b[below], strict=True)),
        lambda v: [v[f"p{i}"] for i in range(numerator + 1)] + [v[q] for q in names],
        {f"p{i}": -i for i in range(numerator + 1)} | {q: -i - 1 for i, q in enumerate(names)},
    )


def saturation(theta, x):
    return {"c": 1.0 - jnp.exp(-theta["b2"] * x)}


def damped_inverse(theta, x):
    """`exp(-b1 x) / (b2 + b3 x)` with c = 1/b2 taken out; q = b3/b2."""
    return {"c": jnp.exp(-theta["b1"] * x) / (1.0 + theta["q"] * x)}


def power(theta, x):
    return {"c": x ** theta["b2"]}


def kowalik_osborne(theta, x):
    divisor = x**2 + x * theta["b3"] + theta["b4"]
    return {"curve": x**2 / divisor, "line": x / divisor}


def cycles(theta, x):
    def pair(period):
        return jnp.cos(2 * np.pi * x / period), jnp.sin(2 * np.pi * x / period)

    return jnp.ones_like(x), *pair(12.0), *pair(theta["b4"]), *pair(theta["b7"])


def cycles_full(b, x):
    return b[0] + sum(
        b[i] * np.cos(2 * np.pi * x / period) + b[j] * np.sin(2 * np.pi * x / period)
        for period, i, j in ((12.0, 1, 2), (b[3], 4, 5), (b[6], 7, 8))
    )


def damped_cosines(theta, t):
    a1, a2, a3 = theta["a1"], theta["a2"], theta["a3"]
    return {"c1": jnp.exp(-a2 * t) * jnp.cos(a3 * t), "c2": jnp.exp(-a1 * t) * jnp.cos(a2 * t)}


def michaelis_menten(theta, x):
    return {"Vm": x / (theta["K"] + x)}


def decays(*names: str, background: bool = False) -> Form:
    """Exponentials by rate. Which of them is which is nobody's to say: sorted, slowest first."""
    head = 1 if background else 0
    parts = [vp.Exp(name, rate=FREE) for name in names]

    def back(v):
        pairs = sorted(((v[f"{n}.rate"], v[n]) for n in names), key=lambda pair: pair[0].real)
        if background:
            return [v["bg"], *(c for _, c in pairs), *(rate for rate, _ in pairs)]
        return [number for rate, c in pairs for number in (c, rate)]

    def split(b):
        k = len(names)
        return (b[1 : 1 + k], b[1 + k :]) if background else (b[::2], b[1::2])

    def full(b, x):
        coef, rates = split(b)
        return sum(c * np.exp(-r * x) for c, r in zip(coef, rates, strict=True)) + head * b[0]

    return Form(
        full,
        sum(parts, start=vp.Constant("bg")) if background else sum(parts[1:], start=parts[0]),
        lambda b: dict(zip((f"{n}.rate" for n in names), split(b)[1], strict=True)),
        back,
        {f"{n}.rate": -1 for n in names},
    )


def peak(x, height, center, width):
    return height * np.exp(-(((x - center) / width) ** 2))


PEAKS = Form(
    lambda b, x: b[0] * np.exp(-b[1] * x) + peak(x, *b[2:5]) + peak(x, *b[5:8]),
    vp.Exp("bg", rate=FREE)
    + vp.Gaussian("one", center=FREE, width=FREE)
    + vp.Gaussian("two", center=FREE, width=FREE),
    lambda b: {
        "bg.rate": b[1],
        "one.center": b[3],
        "one.width": b[4] / ROOT2,
        "two.center": b[6],
        "two.width": b[7] / ROOT2,
    },
    # Which peak is which is nobody's to say: the one on the left first.
    lambda v: [
        *(v["bg"], v["bg.rate"]),
        *(
            number
            for n in sorted(("one", "two"), key=lambda n: v[f"{n}.center"].real)
            for number in (v[n], v[f"{n}.center"], v[f"{n}.width"] * ROOT2)
        ),
    ],
    {"bg.rate": -1, "one.center": 1, "one.width": 1, "two.center": 1, "two.width": 1},
)
DECAYS = decays("one", "two", "three")
SATURATION = Form(
    lambda b, x: b[0] * (1.0 - np.exp(-b[1] * x)),
    saturation,
    lambda b: {"b2": b[1]},
    lambda v: [v["c"], v["b2"]],
    {"b2": -1},
)
NIST = {
    "BoxBOD": SATURATION,
    "Chwirut1": Form(
        lambda b, x: np.exp(-b[0] * x) / (b[1] + b[2] * x),
        damped_inverse,
        lambda b: {"b1": b[0], "q": b[2] / b[1]},
        lambda v: [v["b1"], 1.0 / v["c"], v["q"] / v["c"]],
        {"b1": -1, "q": -1},
    ),
    "DanWood": Form(
        lambda b, x: b[0] * x ** b[1],
        power,
        lambda b: {"b2": b[1]},
        lambda v: [v["c"], v["b2"]],
    ),
    "ENSO": Form(
        cycles_full,
        cycles,
        lambda b: {"b4": b[3], "b7": b[6]},
        lambda v: [
            *(v["c0"], v["c1"], v["c2"]),
            *(v["b4"], v["c3"], v["c4"]),
            *(v["b7"], v["c5"], v["c6"]),
        ],
    ),
    "Gauss1": PEAKS,
    "Gauss3": PEAKS,
    "Kirby2": quotient(2, 2),
    "Lanczos1": DECAYS,
    "Lanczos3": DECAYS,
    "MGH09": Form(
        lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
        kowalik_osborne,
        lambda b: {"b3": b[2], "b4": b[3]},
        lambda v: [v["curve"], v["line"] / v["curve"], v["b3"], v["b4"]],
        {"b3": 1, "b4": 2, "line": 1},
    ),
    "MGH17": decays("one", "two", background=True),
    "Misra1a": SATURATION,
    "Thurber": quotient(3, 3),
}


def _one(column: Callable, full: Callable, names: list[str]) -> Form:
    """A problem `b1 column(theta, x)` whose other parameters are those of the column."""
    return Form(
        full,
        lambda theta, x: {"c": column(theta, x)},
        lambda b: dict(zip(names, b[1:], strict=True)),
        lambda v: [v["c"], *(v[name] for name in names)],
    )


def _arctan_line() -> Form:
    def arc(theta, x):
        return -jnp.arctan(theta["b3"] / (x - theta["b4"])) / np.pi

    def line(theta, x):
        return {"b1": jnp.ones_like(x), "b2": -x}

    return Form(
        lambda b, x: b[0] - b[1] * x - np.arctan(b[2] / (x - b[3])) / np.pi,
        vp.Offset(vp.Custom("", arc, {"b3": FREE, "b4": FREE})) + vp.Custom("", line, {}),
        lambda b: {"b3": b[2], "b4": b[3]},
        lambda v: [v["b1"], v["b2"], v["b3"], v["b4"]],
        {"b3": 1, "b4": 1, "b2": -1},
    )


def _area_of_a_peak() -> Form:
    form = _one(
        lambda t, x: jnp.exp(-0.5 * ((x - t["b3"]) / t["b2"]) ** 2) / t["b2"],
        lambda b, x: b[0] / b[1] * np.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
        ["b2", "b3"],
    )

    def back(v):
        # With the signs of both others changed it is the same curve.
        sign = -1.0 if v["b2"].real < 0 else 1.0
        return [sign * v["c"], sign * v["b2"], v["b3"]]

    return dataclasses.replace(form, back=back)


def _inside_exp(theta, x):
    return jnp.exp(theta["b2"] - theta["b3"] * x)


# The other problems of NIST whose data have one x, for the bench: the tests of thirteen take long enough.
# What is written as published need not be what a person would write; nor are these starts.
MORE = {
    "Bennett5": _one(
        lambda t, x: (t["b2"] + x) ** (-1.0 / t["b3"]),
        lambda b, x: b[0] * (b[1] + x) ** (-1.0 / b[2]),
        ["b2", "b3"],
    ),
    "Chwirut2": NIST["Chwirut1"],
    "Eckerle4": _area_of_a_peak(),
    "Gauss2": PEAKS,
    "Hahn1": quotient(3, 3),
    "Lanczos2": DECAYS,
    "MGH10": _one(
        lambda t, x: jnp.exp(t["b2"] / (x + t["b3"])),
        lambda b, x: b[0] * np.exp(b[1] / (x + b[2])),
        ["b2", "b3"],
    ),
    "Misra1b": _one(
        lambda t, x: 1.0 - (1.0 + t["b2"] * x / 2.0) ** -2.0,
        lambda b, x: b[0] * (1.0 - (1.0 + b[1] * x / 2.0) ** -2.0),
        ["b2"],
    ),
    "Misra1c": _one(
        lambda t, x: 1.0 - (1.0 + 2.0 * t["b2"] * x) ** -0.5,
        lambda b, x: b[0] * (1.0 - (1.0 + 2.0 * b[1] * x) ** -0.5),
        ["b2"],
    ),
    "Misra1d": _one(
        lambda t, x: t["b2"] * x / (1.0 + t["b2"] * x),
        lambda b, x: b[0] * b[1] * x / (1.0 + b[1] * x),
        ["b2"],
    ),
    "Rat42": _one(
        lambda t, x: 1.0 / (1.0 + _inside_exp(t, x)),
        lambda b, x: b[0] / (1.0 + np.exp(b[1] - b[2] * x)),
        ["b2", "b3"],
    ),
    "Rat43": _one(
        lambda t, x: (1.0 + _inside_exp(t, x)) ** (-1.0 / t["b4"]),
        lambda b, x: b[0] * (1.0 + np.exp(b[1] - b[2] * x)) ** (-1.0 / b[3]),
        ["b2", "b3", "b4"],
    ),
    "Roszman1": _arctan_line(),
}
OLEARY_RUST = Form(
    lambda b, t: (
        b[0] * np.exp(-b[3] * t) * np.cos(b[4] * t) + b[1] * np.exp(-b[2] * t) * np.cos(b[3] * t)
    ),
    damped_cosines,
    lambda a: {"a1": a[0], "a2": a[1], "a3": a[2]},
    lambda v: [v["c1"], v["c2"], v["a1"], v["a2"], v["a3"]],
)
PUROMYCIN = Form(
    lambda b, x: b[0] * x / (b[1] + x),
    michaelis_menten,
    lambda b: {"K": b[1]},
    lambda v: [v["Vm"], v["K"]],
    {"K": 1},
)


def lre(found, certified) -> float:
    """Digits that agree, of the worst entry: -log10 of the relative error, at most 16, at least 0.

    As NIST defines it; what is not finite has no digits.
    """
    error = np.abs(np.asarray(found, float) - certified) / np.abs(certified)
    worst = float(np.max(np.where(np.isfinite(error), error, 1.0)))
    return max(-np.log10(max(worst, 1e-16)), 0.0)


def alignment(form: Form, problem: oracles.Oracle, b) -> float:
    """Largest cosine between the residual and a column of the Jacobian, both of the published model.

    Zero where the sum of squares is stationary, whatever the units.
    """
    b, tiny = np.asarray(b, float), 1e-30
    weights = 1.0 if problem.weights is None else problem.weights
    resid = weights * (problem.y - form.full(b, problem.x))
    found = [0.0]
    for unit_vector in np.eye(b.size):
        column = weights * np.imag(form.full(b + 1j * tiny * unit_vector, problem.x)) / tiny
        size = np.linalg.norm(column) * np.linalg.norm(resid)
        found.append(abs(column @ resid) / size if size > 0 else 0.0)
    return max(found)


def start_of(form: Form, b, x_unit: float = 1.0) -> dict[str, float]:
    """Starts by name at published parameters b, for x in units of `x_unit`."""
    powers = form.x_powers or {}
    return {k: float(v * x_unit ** powers.get(k, 0)) for k, v in form.start(np.asarray(b)).items()}


def run(
    form: Form, problem: oracles.Oracle, start, y_unit: float = 1.0, x_unit: float = 1.0, **options
) -> vp.FitResult:
    """The fit of a problem from published parameters `start`, with the data in other units."""
    x, y = x_unit * problem.x, y_unit * problem.y
    init = start_of(form, start, x_unit)
    return vp.fit(form.model, x, y, init=init, weights=problem.weights, **options)


def published(
    form: Form, fit: vp.FitResult, y_unit: float = 1.0, x_unit: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Published parameters and their covariance, by the delta method, back in published units."""
    names = fit.cov_names
    powers = form.x_powers or {}
    unit = np.array(
        [x_unit ** powers.get(k, 0) * (y_unit if k in fit.columns else 1.0) for k in names]
    )
    values = np.array([fit[name].value for name in names]) / unit

    def back(vector):
        return np.array(form.back(dict(zip(names, vector, strict=True))))

    # A complex step: the derivative to the last digit, as nothing is subtracted.
    tiny = 1e-30
    slope = np.stack(
        [back(values + 1j * tiny * unit_vector).imag / tiny for unit_vector in np.eye(len(names))],
        axis=1,
    )
    covariance = fit.covariance / unit[:, None] / unit
    return np.asarray(back(values), float), slope @ covariance @ slope.T
