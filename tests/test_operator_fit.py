"""`vp.fit` of a model that returns an operator: the numbers of its matrix, under names."""

import os
import subprocess
import sys
from typing import Any

import dask.array as da
import dask.config
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.experimental import sparse

import varpro as vp

M, N, STRENGTH = 48, 10, 3e-3
X, KNOTS = np.linspace(0.0, 1.0, M), np.linspace(0.0, 1.0, N)
INIT = {"shift": vp.Param(0.0, prior=(0.01, 0.02)), "width": 0.08}
# As near to the optimum as the search of the dense twin goes.
EXACT: dict[str, Any] = {
    "solver": vp.LevenbergMarquardt(),
    "linear_solver": vp.linalg.ConjugateGradients(
        rtol=1e-14, jacobian_rtol=1e-6, progress_rtol=0.0
    ),
}
# Both searches end where the cost stands still to the last digits, so that alpha agrees to their root;
# what is made at alpha follows it. Of data this well determined that is 1e-8 and less.
SAME = 1e-8


def matrix(theta, x):
    return jnp.exp(-0.5 * ((x[:, None] - KNOTS - theta["shift"]) / theta["width"]) ** 2)


def parts(theta, x):
    """Coefficients in a dict, data in a dict of two pieces."""
    a = matrix(theta, x)

    def both(c):
        y = a @ c["a"].ravel()
        return {"front": y[:20], "back": y[20:].reshape(4, -1)}

    return lx.FunctionLinearOperator(both, {"a": jax.ShapeDtypeStruct((N // 2, 2), float)})


def dense(theta, x):
    return lx.MatrixLinearOperator(matrix(theta, x))


def cut(a):
    return {"front": a[:20], "back": a[20:].reshape(4, -1)}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    theta = {"shift": 0.02, "width": 0.1}
    sigma = rng.uniform(0.005, 0.02, M)
    y = np.asarray(matrix(theta, X) @ rng.uniform(0.5, 1.5, N)) + sigma * rng.normal(size=M)
    y[7], keep = np.nan, np.ones(M, bool)
    keep[30:33] = False
    return y, sigma, keep


@pytest.fixture(scope="module")
def twin(data):
    y, sigma, keep = data
    given: dict[str, Any] = {"sigma": sigma, "mask": keep, "nan": "drop", "ridge": STRENGTH}
    return vp.fit(matrix, X, y, init=INIT, **given)


@pytest.fixture(scope="module")
def fit(data):
    y, sigma, keep = map(cut, data)
    penalty = vp.Tikhonov(STRENGTH)
    given: dict[str, Any] = {"sigma": sigma, "mask": keep, "nan": "drop"}
    return vp.fit(parts, X, y, init=INIT, penalty=penalty, starts=3, **given, **EXACT)


def test_a_fit_of_an_operator_has_the_numbers_of_its_matrix(fit, twin):
    assert fit.success and twin.success
    np.testing.assert_allclose(fit.alpha, twin.alpha, rtol=SAME)
    np.testing.assert_allclose(fit.coef["a"].ravel(), twin.coef, rtol=1e-6)
    for name in ("cost", "chisq", "dof", "num_linear", "redchi", "aic"):
        assert getattr(fit, name) == pytest.approx(getattr(twin, name), rel=SAME), name
    np.testing.assert_allclose(fit.alpha_stderr, twin.alpha_stderr, rtol=1e-6)
    np.testing.assert_allclose(fit.covariance, twin.covariance_of(fit.cov_names), rtol=1e-6)
    assert fit.num_data == twin.num_data == M - 4
    back, kept = fit.resid["back"].ravel(), twin.resid[20:]
    assert np.isnan(back[10:13]).all() and np.isnan(fit.resid["front"][7])
    np.testing.assert_allclose(back, kept, atol=1e-6)
    # Starts of their own, of one program; the first is the one that was given.
    assert fit.start_costs.shape == (3,)
    assert np.nanmin(fit.start_costs) == pytest.approx(fit.cost, rel=1e-12)


def test_what_a_fit_of_an_operator_says_of_itself(fit, twin, tmp_path):
    ours, theirs = fit.ci(0.9), twin.ci(0.9)
    for name in fit:
        assert ours[name].upper == pytest.approx(theirs[name].upper, rel=1e-7)
        assert fit.stderr[name] == fit[name].stderr
    assert fit.ci(names="w*").names == ("width",)
    text = str(fit)
    assert (
        "of 10 linear" in text
        and "strength 0.003" in text
        and "front: 20" in text
        and "back: 4x7" in text
    )
    assert str(fit["width"].rounded[0]) in text
    assert fit.diagnostics == ()
    assert fit.to_dict()["parameters"]["shift"]["stderr"] == fit["shift"].stderr
    assert list(fit.to_frame().index) == ["shift", "width"]
    fit.save(tmp_path / "fit.nc")
    assert vp.load(tmp_path / "fit.nc") == fit
    with pytest.raises(vp.InputError, match="No parameter 'widht'.*'width'"):
        fit["widht"]


def test_complex_coefficients_count_twice(rng):
    t, freq = np.linspace(0.0, 3.0, 40), np.linspace(0.5, 3.0, 4)

    def waves(theta, t):
        return jnp.exp((1j * (freq + theta["shift"]) - theta["rate"]) * t[:, None])

    truth = {"shift": 0.1, "rate": 0.4}
    coef = rng.normal(size=4) + 1j * rng.normal(size=4)
    y = waves(truth, t) @ coef + 1e-2 * (rng.normal(size=40) + 1j * rng.normal(size=40))
    given: dict[str, Any] = {"init": {"shift": 0.05, "rate": 0.5}, "ridge": 0.01}
    twin = vp.fit(waves, t, y, **given)
    found: Any = vp.fit(
        lambda theta, t: lx.MatrixLinearOperator(waves(theta, t)), t, y, **given, **EXACT
    )
    for name in ("cost", "chisq", "dof", "num_linear"):
        assert getattr(found, name) == pytest.approx(getattr(twin, name), rel=SAME), name
    np.testing.assert_allclose(found.alpha, twin.alpha, rtol=1e-7)
    np.testing.assert_allclose(found.alpha_stderr, twin.alpha_stderr, rtol=1e-6)
    np.testing.assert_allclose(found.coef, twin.coef, rtol=1e-5)


def test_constraints_and_many_coefficients(rng):
    """Of 70 coefficients the number that the data determine is estimated; a sparse matrix, two sides."""
    m, n, strength = 100, 70, 0.3
    x, knots = np.linspace(0.0, 1.0, m), np.linspace(0.0, 1.0, n)

    def columns(theta, x):
        away = x[:, None] - knots - theta["shift"]
        return jnp.maximum(1 - (away / theta["width"]) ** 2, 0.0) ** 3 + theta["twice"] * 0.0

    def rows(theta, x):
        # At most six knots are within the width of a sample.
        return sparse.BCOO.fromdense(columns(theta, x), nse=6 * m)

    theta = {"shift": 0.005, "width": 0.04, "twice": 0.01}
    a = np.asarray(columns(theta, x))
    y = a @ rng.uniform(size=(n, 2)) + 0.01 * rng.normal(size=(m, 2))
    found: Any = vp.fit(
        *(rows, x, y),
        init={"shift": 0.0, "width": vp.Param(0.04, fixed=True), "twice": 0.0},
        bounds={"shift": (-0.05, 0.001)},
        tie={"twice": "2 * shift"},
        penalty=vp.Tikhonov(strength),
        sigma=0.01,
        absolute_sigma=True,
    )
    assert found.success, str(found)
    assert found["shift"].value == 0.001 and found["twice"].value == pytest.approx(0.002)
    assert found["twice"].tied_to == "2 * shift" and found["width"].stderr == 0.0
    assert np.isnan(found["shift"].stderr)
    assert "bound" in [finding.code for finding in found.diagnostics]
    a = np.asarray(columns({"shift": 0.001, "width": 0.04, "twice": 0.0}, x)) / 0.01
    trace = 2 * np.trace(a @ np.linalg.solve(a.T @ a + strength * np.eye(n), a.T))
    # Of random signs the trace has a variance of at most twice itself, here over the mean of ten.
    assert abs(found.num_linear - trace) < 5 * np.sqrt(2 * trace / 10)
    assert found.num_coefficients == 2 * n and found.coef.shape == (n, 2)


def test_nonnegative_coefficients_are_those_of_bounded_least_squares(data):
    y, sigma, keep = data
    # Without the third and seventh knot, so that noise asks for what is below zero.
    y = y - np.asarray(matrix({"shift": 0.02, "width": 0.1}, X))[:, [2, 6]] @ [2.0, 2.0]
    shared: dict[str, Any] = {"init": INIT, "ridge": STRENGTH, "nonnegative": True}
    given: dict[str, Any] = {"sigma": sigma, "mask": keep, "nan": "drop"}
    twin = vp.fit(matrix, X, y, **given, **shared)
    assert 0 < twin.coef_at_bound.sum() < N
    given = {name: cut(a) if name != "nan" else a for name, a in given.items()}
    found = vp.fit(parts, X, cut(y), **given, **shared, **EXACT)
    assert found.success and found.inner_steps > 0
    np.testing.assert_allclose(found.alpha, twin.alpha, rtol=1e-7)
    assert ((found.coef["a"].ravel() == 0) == twin.coef_at_bound).all()
    np.testing.assert_allclose(found.coef["a"].ravel(), twin.coef, rtol=1e-5, atol=1e-12)
    for name in ("cost", "chisq", "dof"):
        assert getattr(found, name) == pytest.approx(getattr(twin, name), rel=1e-7), name
    np.testing.assert_allclose(found.alpha_stderr, twin.alpha_stderr, rtol=1e-5)

    y, weights = np.where(keep & np.isfinite(y), y, 0.0), np.where(keep & np.isfinite(y), 1.0, 0.0)
    direction = np.random.default_rng(5).normal(size=M)
    inner = vp.linalg.ProjectedGradients(EXACT["linear_solver"])

    def of(step):
        solved = vp.solve(
            *(dense, y + step * direction, {"shift": 0.0, "width": 0.08}, X),
            weights=weights,
            penalty=vp.Tikhonov(STRENGTH),
            solver=vp.LevenbergMarquardt(),
            linear_solver=inner,
        )
        return jnp.concatenate([jnp.atleast_1d(solved.value["width"]), solved.coef])

    with_slope, h = jax.jit(lambda step: jax.jvp(of, (step,), (1.0,))), 1e-4
    central = (with_slope(h)[0] - with_slope(-h)[0]) / (2 * h)
    np.testing.assert_allclose(with_slope(0.0)[1], central, rtol=1e-4, atol=1e-5)


def test_a_fit_that_fails_says_why(data):
    y = np.where(np.isfinite(data[0]), data[0], 1.0)

    def turned(theta, x):
        a, takes = matrix(theta, x["at"]), jax.ShapeDtypeStruct((N,), float)
        return vp.linalg.FunctionPair(
            lambda c: a @ c, lambda u: a.T @ jnp.where(x["wrong"] > 0, u[::-1], u), takes
        )

    given: dict[str, Any] = {
        "init": {"shift": 0.0, "width": 0.08},
        "max_steps": 3,
        "linear_solver": vp.linalg.ConjugateGradients(max_steps=2),
        "penalty": vp.Tikhonov(1e-6),
    }
    found = vp.fit(turned, {"at": X, "wrong": np.array(1.0)}, y, **given)
    assert found.status == "adjoint_mismatch" and "transpose" in found.message
    assert "NOT CONVERGED (adjoint_mismatch)" in str(found)
    with pytest.raises(vp.FitError, match="inner solver") as failed:
        vp.fit(turned, {"at": X, "wrong": np.array(0.0)}, y, throw=True, **given)
    assert failed.value.fit.status == "linear_max_steps_reached"  # pyright: ignore


def test_lists_are_as_good_as_tuples_and_what_is_no_operator_is_named(data, tmp_path):
    y = np.where(np.isfinite(data[0]), data[0], 1.0)

    def halves(theta, x):
        a = matrix(theta, x)
        takes = jax.ShapeDtypeStruct((N,), float)
        return lx.FunctionLinearOperator(lambda c: [a[:24] @ c, a[24:] @ c], takes)

    given: dict[str, Any] = {"init": {"shift": 0.0, "width": 0.08}, "penalty": vp.Tikhonov(0.1)}
    fit = vp.fit(halves, X, [y[:24], y[24:]], sigma=[0.01, 0.02], **given)
    assert fit.success and isinstance(fit.fitted, list) and fit.resid[1].shape == (24,)
    again = vp.fit(halves, X, (y[:24], y[24:]), sigma=(0.01, 0.02), **given)
    np.testing.assert_array_equal(fit.alpha, again.alpha)
    fit.save(tmp_path / "fit.nc")
    assert vp.load(tmp_path / "fit.nc") == fit
    for basis, said in (
        (lambda theta, x: np.asarray(matrix(theta, x)), "traced by JAX"),
        (lambda theta, x: lambda c: matrix(theta, x) @ c, "returned a function"),
        (lambda theta, x: dense(theta | {"shift": theta["shfit"]}, x), "asked for .* 'shfit'"),
    ):
        with pytest.raises(vp.InputError, match=said):
            vp.fit(basis, X, y, **given)


SHARDED = """
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.optimize
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import varpro as vp

jax.config.update("jax_enable_x64", True)
x, knots = jnp.linspace(0, 1, 64), jnp.linspace(0, 1, 8)

def basis(alpha, x):
    a = jnp.exp(-0.5 * ((x[:, None] - knots - alpha["shift"]) / 0.1) ** 2)
    takes = jax.ShapeDtypeStruct((8, 16), float)
    return lx.FunctionLinearOperator(lambda c: a @ c, takes)

rng = np.random.default_rng(0)
clean = basis({"shift": 0.02}, x).mv(jnp.asarray(rng.uniform(size=(8, 16))))
y = clean + 0.01 * rng.normal(size=(64, 16))
mesh = Mesh(np.array(jax.devices()), ("sides",))
there = jax.device_put(y, NamedSharding(mesh, PartitionSpec(None, "sides")))
two = vp.solve(
    *(basis, there, {"shift": 0.0}, x),
    penalty=vp.Tikhonov(1e-3),
    solver=vp.LevenbergMarquardt(),
    linear_solver=vp.linalg.ConjugateGradients(rtol=1e-13, jacobian_rtol=1e-6, progress_rtol=0.0),
)
assert len(two.resid.sharding.device_set) == 2

# The same of arrays on the host.
x, knots, below = np.asarray(x), np.asarray(knots), np.concatenate([y, np.zeros((8, 16))])

def cost(shift):
    a = np.exp(-0.5 * ((x[:, None] - knots - shift) / 0.1) ** 2)
    a = np.concatenate([a, 1e-3**0.5 * np.eye(8)])
    return 0.5 * np.sum((below - a @ np.linalg.lstsq(a, below, rcond=None)[0]) ** 2)

one = scipy.optimize.minimize_scalar(cost, bracket=(0.0, 0.05), tol=1e-10)
np.testing.assert_allclose(two.cost, one.fun, rtol=1e-9)
np.testing.assert_allclose(two.value["shift"], one.x, atol=1e-7)
print("same")
"""


def test_data_on_two_devices_give_the_same_answer():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    ran = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.endswith("same\n"), ran.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"y": np.zeros(M + 1)}, "returns shape"),
        ({"y": {"a": np.zeros(M)}}, "returns shape"),
        ({"y": np.where(X < 0.1, np.nan, X)}, "y has 5 values that are not finite"),
        ({"mask": X > 2}, "No value of y is in use"),
        ({"sigma": np.ones(3)}, r"sigma has shape \(3,\)"),
        ({"sigma": {"a": 1.0}}, "sigma is a dict"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"weights": -X}, "weights must be finite, and not negative"),
        ({"weights": 1.0, "sigma": 1.0}, "either sigma"),
        ({"y": {"a": X}, "weights": {"b": 1.0}}, "has the parts b, but y has a"),
        ({"init": {"shift": 0.0, "width": vp.Param()}}, "width has no start"),
        ({"bounds": {"c0": (0.0, 1.0)}}, "no parameter matches 'c0'"),
        ({"relations": {"b": "a"}}, "relations= is for a model of columns"),
        ({"smooth": {"*": 1.0}}, "smooth= is for a model of columns"),
        ({"noise": "poisson"}, "noise= is for a model of columns"),
        ({"share": "none"}, "share= is for a model of columns"),
        ({"derived": {"a": "shift"}}, "derived= is for a model of columns"),
        ({"ridge": {"*": 1.0}}, "have no names"),
        ({"nonnegative": "a"}, "give nonnegative=True"),
        ({"nonnegative": True, "ridge": "gcv"}, "coefficients without bounds"),
        ({"nonnegative": True, "linear_solver": lx.LSMR(1e-6, 1e-6)}, "take vp.linalg.Conjugate"),
        ({"ridge": 1.0, "penalty": vp.Tikhonov()}, "either penalty= or ridge="),
        ({"penalty": 1.0}, "penalty must be"),
        ({"ridge": "gcv", "starts": 4}, "Costs of several starts"),
        ({"linear_solver": vp.linalg.QR()}, "is not factored"),
        ({"model": matrix, "penalty": vp.Tikhonov()}, "is for a model that returns an operator"),
        ({"model": matrix, "linear_solver": lx.CG(1e-6, 1e-6)}, "Give vp.linalg.SVD"),
        ({"model": lambda t, x: dense(t, x[:5]), "x": X, "y": X[:5]}, "5 data points cannot"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_computed(arguments, complaint):
    given: dict[str, Any] = {"model": dense, "x": X, "y": X, "init": {"shift": 0.0, "width": 0.1}}
    with pytest.raises(vp.InputError, match=complaint):
        vp.fit(**given | arguments)


def test_a_matrix_that_lies_in_blocks_on_a_disk_gives_the_same_answer(rng, tmp_path):
    """The recipe of docs/operators.md: what is stored never is in memory as a whole."""
    m, n = 100, 6
    rows = rng.normal(size=(m, n)) * (rng.uniform(size=(m, n)) < 0.3)
    blocks: Any = (64, n)
    da.from_array(rows, chunks=blocks).to_zarr(tmp_path / "rows.zarr")
    stored = da.from_zarr(tmp_path / "rows.zarr")
    widest = []

    def by_blocks(matrix):
        out = jax.ShapeDtypeStruct(matrix.shape[:1], matrix.dtype)
        seen = matrix.map_blocks(lambda block: widest.append(block.size) or block, dtype=float)

        @jax.custom_jvp
        def product(v):
            def called(v):
                return np.asarray(np.asarray(v) @ seen.T)

            return jax.pure_callback(called, out, v, vmap_method="broadcast_all")

        product.defjvp(lambda v, t: (product(*v), product(*t)))
        return product

    ahead, back = by_blocks(stored), by_blocks(stored.T)
    frequency = np.fft.rfftfreq(n)

    def moved(c, by):
        return jnp.fft.irfft(jnp.exp(-2j * np.pi * frequency * by) * jnp.fft.rfft(c), n)

    def by_disk(theta, x):
        by = theta["shift"]
        return vp.linalg.FunctionPair(
            lambda c: ahead(moved(c, by)),
            lambda u: moved(back(u), -by),
            jax.ShapeDtypeStruct((n,), float),
        )

    def in_memory(theta, x):
        takes = jax.ShapeDtypeStruct((n,), float)
        return lx.FunctionLinearOperator(lambda c: rows @ moved(c, theta["shift"]), takes)

    smooth = np.cos(2 * np.pi * (np.arange(n) - 0.3) / n)
    y = rows @ smooth + 0.01 * rng.normal(size=m)
    given: dict[str, Any] = {"init": {"shift": 0.25}, "penalty": vp.Tikhonov(1e-3, "gradient")}
    memory = vp.fit(in_memory, None, y, **given)
    with dask.config.set(scheduler="synchronous"):  # two blocks are not worth threads
        disk = vp.fit(by_disk, None, y, **given)
    assert disk.success and max(widest) == 64 * n
    assert disk.cost == pytest.approx(memory.cost, rel=1e-10)
    assert disk["shift"].stderr == pytest.approx(memory["shift"].stderr, rel=1e-6)
    np.testing.assert_allclose(disk.coef, memory.coef, atol=1e-8)
