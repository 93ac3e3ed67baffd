"""The outer solver against published optima, scipy, and everything that can go wrong."""

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
import scipy.optimize

from varpro._errors import InputError
from varpro._search.levenberg_marquardt import STOP, LevenbergMarquardt
from varpro._search.trust_region import _LARGE, triangle

INF = jnp.inf
TIGHT = LevenbergMarquardt(ftol=0.0, xtol=0.0, gtol=0.0)


def solve(fn, y0, solver=None, max_steps=1000, args=None, **options):
    solver = LevenbergMarquardt() if solver is None else solver
    y0 = jnp.asarray(y0, float) if isinstance(y0, list) else y0
    return _solve(fn, solver, y0, args, options, max_steps)


# One program for each problem, not one for every operation before and after its loop.
@eqx.filter_jit
def _solve(fn, solver, y0, args, options, max_steps):
    return optx.least_squares(
        fn, solver, y0, args=args, options=options, max_steps=max_steps, throw=False
    )


def succeeded(solution):
    return bool(solution.result == optx.RESULTS.successful)


def stopped(solution, *names):
    return any(bool(solution.stats["stop"] == getattr(STOP, name)) for name in names)


@eqx.filter_jit
def linearised(fn, y, args):
    return fn(y, args), jax.jacfwd(lambda v: fn(v, args))(y)


def sum_of_squares(fn, y, args=None):
    return float(np.sum(np.asarray(linearised(fn, jnp.asarray(y), args)[0]) ** 2))


def _read(text):
    return np.array([float(word) for word in text.split()])


# ---------------------------------------------------------------- published optima

# More, Garbow and Hillstrom, Testing unconstrained optimization software, ACM TOMS 7 (1981).
_BARD = _read(".14 .18 .22 .25 .29 .32 .35 .39 .37 .58 .73 .96 1.34 2.10 4.39")
_MEYER = _read(
    "34780 28610 23650 19630 16370 13720 11540 9744 8261 7030 6005 5147 4427 3820 3307 2872"
)
_U = np.arange(1.0, 16.0)


def rosenbrock(y, args):
    return jnp.stack([10 * (y[1] - y[0] ** 2), 1 - y[0]])


def powell_singular(y, args):
    return jnp.stack(
        [
            y[0] + 10 * y[1],
            5**0.5 * (y[2] - y[3]),
            (y[1] - 2 * y[2]) ** 2,
            10**0.5 * (y[0] - y[3]) ** 2,
        ]
    )


def freudenstein_roth(y, args):
    first = -13 + y[0] + ((5 - y[1]) * y[1] - 2) * y[1]
    return jnp.stack([first, -29 + y[0] + ((y[1] + 1) * y[1] - 14) * y[1]])


def bard(y, args):
    return _BARD - (y[0] + _U / ((16 - _U) * y[1] + np.minimum(_U, 16 - _U) * y[2]))


def meyer(y, args):
    return y[0] * jnp.exp(y[1] / (45 + 5 * np.arange(1.0, 17.0) + y[2])) - _MEYER


def helical_valley(y, args):
    angle = jnp.arctan2(y[1], y[0]) / (2 * jnp.pi)
    return jnp.stack([10 * (y[2] - 10 * angle), 10 * (jnp.hypot(y[0], y[1]) - 1), y[2]])


def jennrich_sampson(y, args):
    i = np.arange(1.0, 11.0)
    return 2 + 2 * i - (jnp.exp(i * y[0]) + jnp.exp(i * y[1]))


CLASSICS = [
    (rosenbrock, [-1.2, 1.0], 0.0),
    (powell_singular, [3.0, -1.0, 0.0, 1.0], 0.0),
    (freudenstein_roth, [0.5, -2.0], 48.98425367924),
    (bard, [1.0, 1.0, 1.0], 8.214877306578e-3),
    (meyer, [0.02, 4000.0, 250.0], 87.945855171),
    (helical_valley, [-1.0, 0.0, 0.0], 0.0),
    (jennrich_sampson, [0.3, 0.4], 124.362182355615),
]


@pytest.mark.parametrize(("fn", "start", "best"), CLASSICS)
def test_classic_problem_reaches_its_published_sum_of_squares(fn, start, best):
    solution = solve(fn, start)
    assert succeeded(solution)
    assert sum_of_squares(fn, solution.value) == pytest.approx(best, rel=1e-9, abs=1e-25)
    assert int(solution.stats["num_jacobians"]) <= int(solution.stats["num_residuals"])


# NIST Statistical Reference Datasets (public domain): model, x, y, two starts, certified
# parameters, certified residual sum of squares. MGH09 is Kowalik-Osborne, MGH17 is Osborne 1.
NIST = {
    "Misra1a": (
        lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
        _read("77.6 114.9 141.1 190.8 239.9 289 332.8 378.4 434.8 477.3 536.8 593.1 689.1 760"),
        _read(
            "10.07 14.73 17.94 23.93 29.61 35.18 40.02 44.82 50.76 55.05 61.01 66.4 75.47 81.78 "
        ),
        ([500, 0.0001], [250, 0.0005]),
        [238.94212918, 0.00055015643181],
        0.12455138894,
    ),
    "BoxBOD": (
        lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
        _read("1 2 3 5 7 10"),
        _read("109 149 149 191 213 224"),
        ([1, 1], [100, 0.75]),
        [213.80940889, 0.54723748542],
        1168.0088766,
    ),
    "DanWood": (
        lambda b, x: b[0] * x ** b[1],
        _read("1.309 1.471 1.49 1.565 1.611 1.68"),
        _read("2.138 3.421 3.597 4.34 4.882 5.66"),
        ([1, 5], [0.7, 4]),
        [0.76886226176, 3.8604055871],
        0.0043173084083,
    ),
    "MGH09": (
        lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
        _read("4 2 1 0.5 0.25 0.167 0.125 0.1 0.0833 0.0714 0.0625"),
        _read("0.1957 0.1947 0.1735 0.16 0.0844 0.0627 0.0456 0.0342 0.0323 0.0235 0.0246"),
        ([25, 39, 41.5, 39], [0.25, 0.39, 0.415, 0.39]),
        [0.19280693458, 0.19128232873, 0.12305650693, 0.13606233068],
        0.00030750560385,
    ),
    "Lanczos3": (
        lambda b, x: jnp.exp(-jnp.outer(x, b[1::2])) @ b[::2],
        _read(
            "0 0.05 0.1 0.15 0.2 0.25 0.3 0.35 0.4 0.45 0.5 0.55 0.6 0.65 0.7 0.75 0.8 0.85 "
            "0.9 0.95 1 1.05 1.1 1.15 "
        ),
        _read(
            "2.5134 2.0443 1.6684 1.3664 1.1232 0.9269 0.7679 0.6389 0.5338 0.4479 0.3776 "
            "0.3197 0.272 0.2325 0.1997 0.1723 0.1493 0.1301 0.1138 0.1 0.0883 0.0783 "
            "0.0698 0.0624 "
        ),
        ([1.2, 0.3, 5.6, 5.5, 6.5, 7.6], [0.5, 0.7, 3.6, 4.2, 4, 6.3]),
        [0.086816414977, 0.95498101505, 0.84400777463, 2.9515951832, 1.5825685901, 4.9863565084],
        1.6117193594e-08,
    ),
    "MGH17": (
        lambda b, x: b[0] + b[1] * jnp.exp(-b[3] * x) + b[2] * jnp.exp(-b[4] * x),
        _read(
            "0 10 20 30 40 50 60 70 80 90 100 110 120 130 140 150 160 170 180 190 200 210 "
            "220 230 240 250 260 270 280 290 300 310 320 "
        ),
        _read(
            "0.844 0.908 0.932 0.936 0.925 0.908 0.881 0.85 0.818 0.784 0.751 0.718 0.685 "
            "0.658 0.628 0.603 0.58 0.558 0.538 0.522 0.506 0.49 0.478 0.467 0.457 0.448 "
            "0.438 0.431 0.424 0.42 0.414 0.411 0.406 "
        ),
        ([50, 150, -100, 1, 2], [0.5, 1.5, -1, 0.01, 0.02]),
        [0.37541005211, 1.9358469127, -1.4646871366, 0.01286753464, 0.022122699662],
        5.4648946975e-05,
    ),
    "Thurber": (
        lambda b, x: jnp.polyval(b[3::-1], x) / (1 + x * jnp.polyval(b[:3:-1], x)),
        _read(
            "-3.067 -2.981 -2.921 -2.912 -2.84 -2.797 -2.702 -2.699 -2.633 -2.481 -2.363 "
            "-2.322 -1.501 -1.46 -1.274 -1.212 -1.1 -1.046 -0.915 -0.714 -0.566 -0.545 -0.4 "
            "-0.309 -0.109 -0.103 0.01 0.119 0.377 0.79 0.963 1.006 1.115 1.572 1.841 2.047 "
            "2.2 "
        ),
        _read(
            "80.574 84.248 87.264 87.195 89.076 89.608 89.868 90.101 92.405 95.854 100.696 "
            "101.06 401.672 390.724 567.534 635.316 733.054 759.087 894.206 990.785 "
            "1090.109 1080.914 1122.643 1178.351 1260.531 1273.514 1288.339 1327.543 "
            "1353.863 1414.509 1425.208 1421.384 1442.962 1464.35 1468.705 1447.894 "
            "1457.628 "
        ),
        ([1000, 1000, 400, 40, 0.7, 0.3, 0.03], [1300, 1500, 500, 75, 1, 0.4, 0.05]),
        [
            1288.13968,
            1491.0792535,
            583.23836877,
            75.416644291,
            0.96629502864,
            0.39797285797,
            0.049727297349,
        ],
        5642.7082397,
    ),
}


@pytest.mark.parametrize("name", NIST)
def test_nist_full_form_reaches_the_certified_digits_from_both_starts(name):
    model, x, y, starts, certified, best = NIST[name]

    @eqx.filter_jit
    def run(start):
        solution = solve(lambda b, _: model(b, x) - y, start, TIGHT)
        return solution, model(solution.value, x) - y

    for start in starts:
        solution, resid = run(jnp.asarray(start, float))
        assert succeeded(solution) and stopped(solution, "floor", "gtol")
        np.testing.assert_allclose(solution.value, certified, rtol=2e-8)
        # Eleven digits are published.
        found = float(np.sum(np.asarray(resid) ** 2))
        assert found == pytest.approx(best, rel=1e-10)


def test_default_tolerances_give_six_digits_on_a_slow_problem():
    model, x, y, starts, certified, _ = NIST["MGH09"]
    solution = solve(lambda b, _: model(b, x) - y, starts[1])
    assert succeeded(solution)
    np.testing.assert_allclose(solution.value, certified, rtol=1e-6)


def _recorded(fn):
    """A list of the points that the Jacobian is asked for, and the Jacobian."""
    path = []

    def jacobian(y, residual, aux, args):
        jax.debug.callback(lambda v: path.append(np.asarray(v)), y, ordered=False)
        return jax.jacfwd(lambda v: fn(v, args))(y)

    return path, jacobian


# ---------------------------------------------------------------- bounds


def kkt(fn, y, lower, upper, args=None):
    """Largest violation: cosine of a free column with r, or of one that could leave its bound."""
    r, jac = map(np.asarray, linearised(fn, y, args))
    norms = np.linalg.norm(jac, axis=0) * np.linalg.norm(r)
    slope = jac.T @ r / np.where(norms > 0, norms, 1)
    low, up = np.asarray(y) <= lower, np.asarray(y) >= upper
    slope = np.where(low, np.minimum(slope, 0), slope)
    slope = np.where(up, np.maximum(slope, 0), slope)
    return np.max(np.abs(np.where(low & up, 0, slope)))


BOXES = [
    ([-1.2, 1.0], [-INF, 1.5], [INF, INF]),
    ([-1.2, 1.5], [-INF, 1.5], [INF, INF]),  # starts on the bound
    ([2.0, 2.0], [-INF, 1.5], [INF, INF]),
    ([-1.2, 1.0], [-INF, -INF], [0.5, INF]),
    ([2.0, 2.5], [1.5, 2.0], [2.0, 3.0]),
    ([2.0, 3.0], [1.5, 2.0], [2.0, 3.0]),  # starts in a corner
    ([-2.0, 2.0], [-2.0, -2.0], [0.25, 2.0]),
    ([0.0, 0.0], [0.0, 0.0], [4.0, 4.0]),  # starts in a corner that it must leave
    ([-1.2, 1.0], [-3.0, -3.0], [3.0, 0.5]),
    ([-1.2, -1.0], [-1.2, -INF], [-1.2, INF]),  # one parameter fixed by equal bounds
    ([0.3, 0.6], [0.3, 0.6], [0.3, 0.6]),  # both fixed
]


def _boxed_rosenbrock():
    run = eqx.filter_jit(
        lambda start, lower, upper: solve(rosenbrock, start, lower=lower, upper=upper)
    )
    return lambda *box: run(*(jnp.asarray(part, float) for part in box))


boxed_rosenbrock = _boxed_rosenbrock()


@pytest.mark.parametrize(("start", "lower", "upper"), BOXES)
def test_bounded_rosenbrock_ends_at_a_kkt_point_no_worse_than_scipys(start, lower, upper):
    solution = boxed_rosenbrock(start, lower, upper)
    y = np.asarray(solution.value)
    assert succeeded(solution)
    assert np.all(y >= lower) and np.all(y <= upper)
    assert kkt(rosenbrock, solution.value, np.array(lower), np.array(upper)) < 1e-7
    np.testing.assert_array_equal(solution.stats["at_lower"], y == np.array(lower))
    np.testing.assert_array_equal(solution.stats["at_upper"], y == np.array(upper))
    if np.all(np.less(lower, upper)):
        for method in ("trf", "dogbox"):
            other = scipy.optimize.least_squares(
                lambda v: np.asarray(rosenbrock(v, None)),
                np.clip(start, lower, upper),
                bounds=(lower, upper),
                method=method,
                x_scale="jac",
                ftol=1e-14,
                xtol=1e-14,
                gtol=1e-14,
            )
            # Rosenbrock's function in a box has two local optima; nothing worse than theirs.
            assert sum_of_squares(rosenbrock, solution.value) <= 2 * other.cost * (1 + 1e-8) + 1e-20


def test_a_parameter_lands_on_its_bound_and_leaves_it_again():
    # From (-1.2, 1) the valley leads over y1 = 0, which the bound cuts short.
    path, jacobian = _recorded(rosenbrock)
    solution = solve(
        rosenbrock,
        [-1.2, 1.0],
        jacobian=jacobian,
        lower=jnp.array([-2.0, 0.05]),
        upper=jnp.array([3.0, 3.0]),
    )
    jax.effects_barrier()
    assert any(y[1] == 0.05 for y in path)
    assert succeeded(solution) and not solution.stats["at_lower"].any()
    np.testing.assert_allclose(solution.value, [1.0, 1.0], atol=1e-10)


def test_bounded_exponential_fit_agrees_with_scipy():
    t = np.linspace(0, 4, 40)
    y = 2 * np.exp(-t / 0.5) + np.exp(-t / 2) + 0.05 * np.cos(37 * t)

    def fn(b, args):
        return b[0] * jnp.exp(-t / b[1]) + b[2] * jnp.exp(-t / b[3]) - y

    start, lower, upper = [1.0, 0.4, 1.0, 1.0], [0, 0.1, 0, 0.1], [1.5, 3, 5, 1.6]
    solution = solve(fn, start, lower=jnp.asarray(lower, float), upper=jnp.asarray(upper))
    other = scipy.optimize.least_squares(
        lambda b: np.asarray(fn(b, None)), start, bounds=(lower, upper), x_scale="jac", xtol=1e-14
    )
    assert succeeded(solution)
    assert bool(solution.stats["at_upper"][0]) or bool(solution.stats["at_upper"][3])
    assert sum_of_squares(fn, solution.value) <= 2 * other.cost * (1 + 1e-9)
    assert kkt(fn, solution.value, np.array(lower), np.array(upper)) < 1e-6


def test_a_start_outside_the_bounds_is_moved_to_them():
    solution = boxed_rosenbrock([9.0, 9.0], [-INF, -INF], [0.5, 3.0])
    assert succeeded(solution)
    np.testing.assert_allclose(solution.value, [0.5, 0.25], rtol=1e-10)


# ---------------------------------------------------------------- units


@eqx.filter_jit
def _lanczos(scale_y, scale_b):
    model, x, y, starts, _, _ = NIST["Lanczos3"]
    start = jnp.asarray(starts[1]) * scale_b
    return solve(lambda b, _: scale_y * (model(b / scale_b, x) - y), start)


def test_units_of_data_and_parameters_do_not_matter():
    ones, scales = jnp.ones(6), jnp.array([1e6, 1e-6, 1e-6, 1e6, 1.0, 1e6])
    one = _lanczos(jnp.array(1.0), ones)
    for scale_y, scale_b in ((1e-6, ones), (1e6, ones), (1.0, scales), (1e-6, scales)):
        other = _lanczos(jnp.array(scale_y), scale_b)
        assert succeeded(other)
        np.testing.assert_allclose(other.value / scale_b, one.value, rtol=1e-7)
        # As many steps, but for those at the end that rounding adds or spares.
        steps, others = (int(found.stats["num_steps"]) for found in (one, other))
        assert abs(others - steps) <= 0.2 * steps + 2


def test_a_power_of_two_in_the_data_changes_no_bit():
    one = _lanczos(jnp.array(1.0), jnp.ones(6))
    for scale in (2.0**-300, 2.0**300):
        other = _lanczos(jnp.array(scale), jnp.ones(6))
        np.testing.assert_array_equal(other.value, one.value)
        assert bool(other.stats["stop"] == one.stats["stop"])


# ---------------------------------------------------------------- numbers that are not finite


# Two residuals of one parameter, of one program.
WALLS = {
    # The first Gauss-Newton step from 60 goes to y < 0, where the logarithm is NaN.
    "logarithm": lambda y: jnp.stack([jnp.log(y[0]) - 1, jnp.sqrt(y[0]) - jnp.exp(0.5)]),
    # Descends into y < 1, where nothing is defined.
    "cliff": lambda y: jnp.where(y[0] < 1, jnp.nan, 1.0) * jnp.stack([y[0], y[0] + 1]),
    "nan": lambda y: jnp.stack([y[0] * jnp.nan, y[0]]),
    "inf": lambda y: jnp.stack([y[0] * jnp.inf, y[0]]),
    "root": lambda y: jnp.stack([jnp.sqrt(y[0]) - 2, 0.0 * y[0]]),
}


def walled(y, which):
    return jax.lax.switch(which, list(WALLS.values()), y)


def solve_walled(name, start):
    return solve(walled, [start], args=jnp.asarray(list(WALLS).index(name)))


def test_trial_points_beyond_a_wall_are_rejected():
    solution = solve_walled("logarithm", 60.0)
    assert succeeded(solution)
    np.testing.assert_allclose(solution.value, [np.e], rtol=1e-9)


def test_an_optimum_behind_a_wall_is_no_success():
    solution = solve_walled("cliff", 3.0)
    assert not succeeded(solution)
    assert stopped(solution, "nonfinite")
    assert bool(solution.result == optx.RESULTS.nonfinite)
    assert bool(jnp.all(jnp.isfinite(solution.value)))


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_start_that_is_not_finite_ends_at_once(bad):
    solution = solve_walled(bad, 1.0)
    assert bool(solution.result == optx.RESULTS.nonfinite)
    assert int(solution.stats["num_steps"]) == 1
    np.testing.assert_array_equal(solution.value, [1.0])


def test_a_jacobian_that_is_not_finite_at_the_start_ends_at_once():
    solution = solve_walled("root", 0.0)
    assert bool(solution.result == optx.RESULTS.nonfinite)


def test_a_point_whose_jacobian_is_not_finite_is_not_accepted():
    # sqrt has an infinite derivative at its bound, where the full step leads.
    def fn(y, args):
        return jnp.stack([jnp.sqrt(y[0]) - 0.05, 0.2 * y[0] - 0.0005])

    solution = solve(fn, [1.0], lower=jnp.array([0.0]))
    assert succeeded(solution)
    np.testing.assert_allclose(solution.value, [0.0025], rtol=1e-8)


# ---------------------------------------------------------------- no false success


def test_a_wrong_jacobian_is_no_success():
    def wrong(y, residual, aux, args):
        return -jax.jacfwd(lambda v: bard(v, None))(y)

    solution = solve(bard, [1.0, 1.0, 1.0], jacobian=wrong)
    assert not succeeded(solution)
    assert stopped(solution, "stuck")
    np.testing.assert_array_equal(solution.value, [1.0, 1.0, 1.0])


def test_parameters_that_run_off_are_no_success():
    # From ten times the usual start, y1 and y2 go to infinity, where J has vanished.
    solution = solve(bard, [10.0, 10.0, 10.0], max_steps=256)
    assert not succeeded(solution)


def test_a_plateau_where_the_jacobian_underflows_is_no_success():
    def fn(y, args):  # least at infinity; from y = 745 on the derivative is exactly zero
        return jnp.stack([jnp.exp(-y[0]) + 1, y[1] - 2, jnp.ones(())])

    solution = solve(fn, [1.0, 1.0])
    assert not succeeded(solution)
    assert stopped(solution, "vanished", "stuck")


def test_max_steps_is_a_failure_with_the_best_point_so_far():
    solution = solve(rosenbrock, [-1.2, 1.0], max_steps=5)
    assert bool(solution.result == optx.RESULTS.nonlinear_max_steps_reached)
    assert stopped(solution, "running")
    assert int(solution.stats["num_residuals"]) == 5
    assert sum_of_squares(rosenbrock, solution.value) <= 24.2


# ---------------------------------------------------------------- shapes and degenerate problems


def test_parameters_without_effect_and_duplicates_are_survived():
    t = np.linspace(0, 1, 20)

    def fn(y, args):  # y1 + y2 is determined, y3 has no effect
        return jnp.exp(-(y[0] + y[1]) * t) + 0 * y[2] - np.exp(-3 * t) - 0.01 * np.cos(9 * t)

    def alone(k):
        return np.exp(-k * t) - np.exp(-3 * t) - 0.01 * np.cos(9 * t)

    solution = solve(fn, [0.5, 0.7, 5.0])
    expected = scipy.optimize.least_squares(alone, 1.2, xtol=1e-14, ftol=1e-14, gtol=1e-14).x[0]
    assert succeeded(solution)
    assert float(solution.value[0] + solution.value[1]) == pytest.approx(float(expected))
    assert float(solution.value[2]) == 5.0


def test_twins_move_together():
    t = np.linspace(0, 1, 20)
    data = np.exp(-3 * t) + 0.01 * np.cos(9 * t)
    solution = solve(lambda y, args: jnp.exp(-(y[0] + y[1]) * t) - data, [0.6, 0.6])
    assert succeeded(solution)
    np.testing.assert_allclose(solution.value[0], solution.value[1], rtol=1e-6)


def test_fewer_residuals_than_parameters():
    solution = solve(lambda y, args: jnp.sum(y**2, keepdims=True) - 3.0, [1.0, 2.0, 3.0])
    assert succeeded(solution)
    assert float(jnp.sum(solution.value**2)) == pytest.approx(3.0, rel=1e-12)


def test_one_parameter():
    t = np.linspace(0, 1, 9)
    solution = solve(lambda y, args: jnp.exp(-y * t) - np.exp(-2.5 * t), [1.0])
    assert succeeded(solution)
    np.testing.assert_allclose(solution.value, [2.5], rtol=1e-12)


def test_a_perfect_start_stops_after_one_evaluation():
    solution = solve(rosenbrock, [1.0, 1.0])
    assert succeeded(solution) and stopped(solution, "fit")
    assert int(solution.stats["num_residuals"]) == 1
    assert int(solution.stats["num_jacobians"]) == 1


def test_pytrees_of_parameters_bounds_and_complex_residuals():
    t = np.linspace(0, 3, 30)
    signal = 2.0 * np.exp((-0.4 + 5.0j) * t)

    def fn(y, args):
        wave = y["a"] * jnp.exp(-y["b"]["decay"] * t) * jnp.exp(1j * y["b"]["freq"] * t)
        return {"wave": wave - args, "prior": 0.0 * y["a"]}

    start = {"a": 1.0, "b": {"decay": 1.0, "freq": 4.6}}
    lower = {"a": 0.0, "b": {"decay": 0.5, "freq": -INF}}
    with pytest.warns(UserWarning, match="Complex support"):
        free = solve(fn, start, args=signal)
        bounded = solve(fn, start, args=signal, lower=lower)
    assert succeeded(free) and succeeded(bounded)
    assert float(free.value["b"]["freq"]) == pytest.approx(5.0, rel=1e-12)
    assert float(free.value["a"]) == pytest.approx(2.0, rel=1e-12)
    assert float(bounded.value["b"]["decay"]) == 0.5


def test_complex_parameters_are_refused():
    with pytest.warns(UserWarning), pytest.raises(InputError, match="real parameters"):
        solve(lambda y, args: jnp.abs(y), jnp.array([1.0 + 1.0j]))


def test_a_given_jacobian_sees_the_aux_of_its_own_point():
    t = np.linspace(0, 1, 12)

    def fn(y, args):
        basis = jnp.exp(-y[0] * t)
        return y[1] * basis - args, {"basis": basis, "at": y}

    def jacobian(y, residual, aux, args):
        consistent = jnp.all(aux["at"] == y) & jnp.allclose(
            residual, y[1] * aux["basis"] - args, rtol=0, atol=1e-12
        )
        jac = jnp.stack([-y[1] * t * aux["basis"], aux["basis"]], axis=1)
        return jnp.where(consistent, jac, jnp.nan)

    data = 2 * np.exp(-1.5 * t) + 0.1 * np.sin(20 * t)
    runs = [
        optx.least_squares(
            fn,
            LevenbergMarquardt(),
            jnp.array([8.0, -3.0]),
            args=jnp.asarray(data),
            has_aux=True,
            throw=False,
            options=options,
        )
        for options in ({"jacobian": jacobian}, {})
    ]
    for solution in runs:
        assert succeeded(solution)
        np.testing.assert_array_equal(solution.aux["at"], solution.value)
    np.testing.assert_allclose(runs[0].value, runs[1].value, rtol=1e-8)


def test_the_jacobian_is_evaluated_at_accepted_points_alone():
    calls, jacobian = _recorded(rosenbrock)
    solution = solve(rosenbrock, [-1.2, 1.0], jacobian=jacobian)
    jax.effects_barrier()
    costs = [sum_of_squares(rosenbrock, y) for y in calls]
    assert len(calls) == int(solution.stats["num_jacobians"])
    assert len(calls) < int(solution.stats["num_residuals"])
    assert all(b < a for a, b in zip(costs, costs[1:], strict=False))


# ---------------------------------------------------------------- batches, precision, compilation


def test_lanes_of_a_batch_equal_single_runs():
    model, x, y, _, _, _ = NIST["Misra1a"]
    data = jnp.stack([y, 1.1 * y, y + 0.5 * np.cos(9 * x), jnp.full_like(y, jnp.nan), 0.0 * y])
    starts = jnp.array([[500, 1e-4], [250, 5e-4], [100, 1e-3], [250, 5e-4], [250, 5e-4]])

    def run(start, data):
        solution = solve(lambda b, args: model(b, x) - args, start, args=data, max_steps=60)
        return solution.value, succeeded_array(solution), solution.stats["num_steps"]

    def succeeded_array(solution):
        return solution.result == optx.RESULTS.successful

    batch = jax.jit(jax.vmap(run))(starts, data)
    single = jax.jit(run)
    for lane in range(len(starts)):
        value, success, steps = single(starts[lane], data[lane])
        np.testing.assert_allclose(batch[0][lane], value, rtol=1e-9)
        assert bool(batch[1][lane]) == bool(success)
        if lane < 4:  # two programs, whose last steps rounding may add or spare
            assert abs(int(batch[2][lane]) - int(steps)) <= 2
    assert batch[1][:3].all() and not batch[1][3]


def test_float32_stops_at_its_own_floor():
    for name in ("Misra1a", "Thurber"):
        model, x, y, starts, certified, _ = NIST[name]
        x32, y32 = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
        start = jnp.asarray(starts[1], jnp.float32)
        solution = solve(lambda b, _: model(b, x32) - y32, start, TIGHT, max_steps=256)  # noqa: B023
        assert solution.value.dtype == jnp.float32
        assert succeeded(solution) and stopped(solution, "floor")
        np.testing.assert_allclose(solution.value, certified, rtol=1e-2)


def test_single_and_double_precision_may_meet():
    t = np.linspace(0, 1, 9)
    start = jnp.array([1.0], jnp.float32)
    solution = solve(lambda y, args: jnp.exp(-y.astype(float) * t) - np.exp(-2.5 * t), start)
    assert succeeded(solution) and solution.value.dtype == jnp.float32
    np.testing.assert_allclose(solution.value, [2.5], rtol=1e-6)


@pytest.mark.parametrize("gap", [1.0, 1e-2, 1e-7, 0.0])
def test_a_large_jacobian_keeps_its_small_singular_values(gap):
    # Well conditioned, the Gram matrix is used; near-duplicate columns must go through QR.
    rng = np.random.default_rng(0)
    jac, resid = rng.normal(size=(2600, 20)), rng.normal(size=2600)
    assert jac.size * 20 >= _LARGE
    jac[:, 7] = jac[:, 3] + gap * jac[:, 7]
    jac *= 10.0 ** rng.integers(-8, 9, size=20)
    tri, head = map(np.asarray, jax.jit(triangle)(jnp.asarray(jac), jnp.asarray(resid)))
    norms = np.linalg.norm(jac, axis=0)
    np.testing.assert_allclose(np.linalg.norm(tri, axis=0), norms, rtol=1e-12)
    np.testing.assert_allclose(tri.T @ head / norms, jac.T @ resid / norms, atol=1e-11)
    np.testing.assert_allclose(
        np.linalg.svd(tri / norms, compute_uv=False),
        np.linalg.svd(jac / norms, compute_uv=False),
        rtol=1e-7,
        atol=1e-13,
    )


def test_the_program_does_not_grow_with_the_number_of_parameters():
    def equations(p):
        text = str(jax.make_jaxpr(lambda y: solve(lambda v, args: v**2 - 2, y).value)(jnp.ones(p)))
        return text.count(" = ")

    assert equations(3) == equations(40) < 1500


# ---------------------------------------------------------------- properties


def _random_residual(y, args):
    matrix, shift, bend, scale = args
    return scale * (matrix @ y + bend * jnp.sin(matrix @ (y**2)) - shift)


_bounded_random = eqx.filter_jit(
    lambda y, args, lower, upper: solve(
        _random_residual, y, args=args, lower=lower, upper=upper, max_steps=200
    )
)


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    seed=st.integers(0, 10**6),
    bend=st.sampled_from([0.0, 0.1, 1.0]),
    rank=st.integers(1, 3),
    on_bound=st.booleans(),
    scale=st.sampled_from([1e-8, 1.0, 1e8]),
)
def test_any_bounded_problem_ends_inside_and_only_kkt_points_succeed(
    seed, bend, rank, on_bound, scale
):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(6, rank)) @ rng.normal(size=(rank, 3))
    shift = 3 * rng.normal(size=6)
    lower = np.where(rng.uniform(size=3) < 0.7, rng.normal(size=3), -np.inf)
    width = np.where(rng.uniform(size=3) < 0.2, 0.0, rng.exponential(size=3))
    upper = np.where(rng.uniform(size=3) < 0.7, np.where(lower > -9, lower, 0) + width, np.inf)
    start = np.clip(rng.normal(size=3), lower, upper)
    if on_bound:
        start = np.where(lower > -np.inf, lower, start)
    args = jax.tree.map(jnp.asarray, (matrix, shift, bend, scale))
    box = jnp.asarray(lower), jnp.asarray(upper)
    solution = _bounded_random(jnp.asarray(start), args, *box)
    y = np.asarray(solution.value)
    assert np.all(np.isfinite(y)) and np.all(y >= lower) and np.all(y <= upper)
    first, last = (sum_of_squares(_random_residual, jnp.asarray(v), args) for v in (start, y))
    assert last <= first * (1 + 1e-12)
    if succeeded(solution) and last > 1e-20 * first:
        assert kkt(_random_residual, jnp.asarray(y), lower, upper, args) < 1e-5
    if bend == 0.0:  # convex: must be found
        assert succeeded(solution)
