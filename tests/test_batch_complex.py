"""Many complex curves at once, against one fit at a time, scipy and differences by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares, minimize

import varpro as vp
from varpro._programs.program import RECENT
from varpro._reduced.normal_equations import moments

T = np.arange(64) * 8e-3
FREE = vp.ComplexExp("a", freq=11.0, rate=18.0) + vp.ComplexExp("b", freq=-39.0, rate=25.0)
RX = vp.Receiver("rx", phase=0.2)
REAL = vp.ComplexExp("a", freq=11.0, rate=18.0, receiver=RX) + vp.ComplexExp(
    "b", freq=-39.0, rate=25.0, receiver=RX
)
KINDS = {"complex": (FREE, {}), "real": (REAL, {"real_coefficients": True})}
both = pytest.mark.parametrize("kind", KINDS)
FIELDS = ("alpha", "coef", "alpha_stderr", "coef_stderr", "chisq", "status", "num_steps")


def voxels(b, seed=0, noise=0.05):
    rng = np.random.default_rng(seed)

    def each(middle, wide):
        return middle + wide * rng.uniform(-1, 1, (b, 1))

    y = each(3.0, 1.0) * np.exp((2j * np.pi * each(10.0, 1.5) - each(20.0, 5.0)) * T)
    y = y + each(1.5, 0.5) * np.exp((2j * np.pi * each(-40.0, 1.5) - each(30.0, 5.0)) * T)
    y = y * np.exp(1j * each(0.5, 0.2))
    return y + noise * (rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape))


Y = voxels(40)


def agree(batch, kind, y, **options):
    """Every curve of the batch is what `varpro.fit` finds in it."""
    model, more = KINDS[kind]
    for i, one in enumerate(y):
        mine = {k: v[i] if np.ndim(v) == 2 else v for k, v in options.items()}
        alone = vp.fit(model, T, one, **mine, **more)
        error = alone.alpha_stderr
        moving = np.isfinite(error) & (error > 0)
        assert np.all(np.abs(batch.alpha[i] - alone.alpha)[moving] <= 1e-3 * error[moving])
        np.testing.assert_allclose(batch.coef[i], alone.coef, rtol=1e-4)
        np.testing.assert_allclose(batch.alpha_stderr[i], error, rtol=1e-3)
        np.testing.assert_allclose(batch.coef_stderr[i], alone.coef_stderr, rtol=1e-3)
        np.testing.assert_allclose(batch.chisq[i], alone.chisq, rtol=1e-8)
        assert batch.dof[i] == alone.dof


@both
def test_every_voxel_is_fitted_as_if_it_were_alone(kind):
    model, more = KINDS[kind]
    batch = vp.fit_many(model, T, Y, **more)
    assert batch.success.all() and batch.coef.dtype == (complex if kind == "complex" else float)
    agree(batch, kind, Y[:5])
    np.testing.assert_allclose(batch.predict(3), vp.fit(model, T, Y[3], **more).fitted, atol=1e-4)


@both
def test_weights_masks_and_bounds_are_those_of_one_fit(kind):
    rng = np.random.default_rng(1)
    model, more = KINDS[kind]
    weights, mask = rng.uniform(0.5, 2.0, Y.shape), rng.uniform(size=Y.shape) > 0.2
    y = np.where(mask, Y, np.nan)
    options = {"weights": weights, "mask": mask, "absolute_sigma": True}
    options |= {"bounds": {"b.rate": (0.0, 30.0), "a.freq": (8.0, 12.0)}}
    batch = vp.fit_many(model, T, y, **options, **more)
    on = batch["b.rate"].value == 30.0
    assert 0 < on[:5].sum() < 5
    np.testing.assert_array_equal(np.isnan(batch["b.rate"].stderr), on)
    agree(batch, kind, y[:5], **options)


@both
def test_values_and_errors_are_those_of_all_parameters_in_scipy(kind):
    model, more = KINDS[kind]
    batch = vp.fit_many(model, T, Y, ftol=1e-14, **more)

    def waves(f1, r1, f2, r2):
        return np.exp(np.outer(T, [2j * np.pi * f1 - r1, 2j * np.pi * f2 - r2]))

    def curve(v):
        if kind == "complex":
            return waves(*v[:4]) @ (v[4:6] + 1j * v[6:])
        return np.exp(1j * v[4]) * (waves(*v[:4]) @ v[5:])

    for i in range(3):

        def resid(v, i=i):
            r = curve(v) - Y[i]
            return np.r_[r.real, r.imag]

        values = {name: batch[name].value[i] for name in (*batch.names, *batch.columns)}
        at = np.array([values[k] for k in ("a.freq", "a.rate", "b.freq", "b.rate")])
        c = np.array([values["a"], values["b"]])
        at = np.r_[at, c.real, c.imag] if kind == "complex" else np.r_[at, values["rx.phase"], c]
        found = least_squares(resid, at, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15)
        np.testing.assert_allclose(at, found.x, rtol=1e-5)
        dof = 2 * T.size - at.size
        assert batch.dof[i] == dof
        var = np.diag(np.linalg.inv(found.jac.T @ found.jac)) * 2 * found.cost / dof
        for j, name in enumerate(("a.freq", "a.rate", "b.freq", "b.rate")):
            assert batch[name].stderr[i] == pytest.approx(np.sqrt(var[j]), rel=1e-4)
        own = var[4:6] + var[6:] if kind == "complex" else var[5:]
        np.testing.assert_allclose(batch.coef_stderr[i], np.sqrt(own), rtol=1e-4)


@pytest.mark.parametrize("count", [2, 9])
@both
def test_the_matrix_is_that_of_golub_and_pereyra(kind, count):
    """Gradient and J^T J at a place far from the optimum, against differences of the residual."""
    receiver = RX if kind == "real" else None
    model = sum(
        vp.ComplexExp(f"l{i}", freq=11.0 - 9.0 * i, rate=18.0 + i, receiver=receiver)
        for i in range(count)
    )
    job = vp.prepare_many(model, T, Y[:1], **KINDS[kind][1])
    curve, start, _, _ = job.block_inputs(0, 1)
    curve, columns = jax.tree.map(lambda a: a[0], curve), jax.tree.map(jnp.asarray, job.columns)
    theta = start[0] * 1.02 + 0.01
    waves = jax.jit(lambda theta: columns.phi(theta))

    def resid(theta):
        phi = np.asarray(waves(jnp.asarray(theta)))
        if kind == "real":
            phi, y = (np.concatenate([a.real, a.imag]) for a in (phi, curve.y))
            return y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]
        r = curve.y - phi @ np.linalg.lstsq(phi, curve.y, rcond=None)[0]
        return np.r_[r.real, r.imag]

    h = 1e-6
    jac = [(resid(theta + h * e) - resid(theta - h * e)) / (2 * h) for e in np.eye(theta.size)]
    jac, r = np.stack(jac, axis=1), resid(theta)
    at = jax.jit(lambda theta: moments(columns, theta, curve))(jnp.asarray(theta))
    np.testing.assert_allclose(at.squares, r @ r, rtol=1e-10)
    scale = np.abs(jac.T @ jac).max()
    np.testing.assert_allclose(at.full, jac.T @ jac, atol=1e-6 * scale)
    np.testing.assert_allclose(at.gradient, jac.T @ r, atol=1e-6 * np.sqrt(scale * (r @ r)))


def test_nine_lines_are_more_than_are_unrolled_and_fitted_all_the_same():
    rng = np.random.default_rng(4)
    freq, t = 12.0 * (np.arange(9) - 4.0), np.arange(128) * 4e-3
    size = rng.uniform(1, 3, (3, 9)) * np.exp(1j * rng.uniform(-1, 1, (3, 9)))
    y = size @ np.exp(np.outer(2j * np.pi * freq - 8.0, t))
    y += 0.02 * (rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape))
    lines = [vp.ComplexExp(f"l{i}", freq=f + 0.2, rate=7.0) for i, f in enumerate(freq)]
    batch = vp.fit_many(sum(lines), t, y)
    assert batch.success.all()
    alone = vp.fit(sum(lines), t, y[1])
    assert np.all(np.abs(batch.alpha[1] - alone.alpha) < 1e-3 * alone.alpha_stderr)
    np.testing.assert_allclose(batch.coef_stderr[1], alone.coef_stderr, rtol=1e-3)


@both
def test_order_blocks_and_units_change_nothing(kind):
    model, more = KINDS[kind]
    y = voxels(150, seed=3, noise=0.4)
    whole = vp.fit_many(model, T, y, block=64, workers=1, **more)
    turn = np.random.default_rng(0).permutation(len(y))
    turned = vp.fit_many(model, T, y[turn], block=64, workers=2, **more)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(turned, field), getattr(whole, field)[turn])
    # A power of two rounds no number.
    small = vp.fit_many(model, T, 2.0**-40 * y, block=64, **more)
    np.testing.assert_allclose(small.coef, 2.0**-40 * whole.coef, rtol=1e-9)


def test_a_dead_a_broken_and_a_masked_voxel_harm_only_themselves():
    y, mask = Y.copy(), np.ones(Y.shape, bool)
    options: dict = {"weights": np.ones(Y.shape), "absolute_sigma": True}
    options["bounds"] = {"b.rate": (0.0, 300.0), "a.freq": (-100.0, 100.0)}
    plain = vp.fit_many(FREE, T, y, mask=mask, **options)
    y[3] = 0.0
    y[5, 7] = complex(1.0, np.nan)
    # Eight real numbers are sought: three complex ones are six, four are just enough.
    mask[7, 3:] = False
    mask[8, 4:] = False
    fit = vp.fit_many(FREE, T, y, mask=mask, **options)
    assert fit.counts["bad_data"] == 1 and fit.counts["no_data"] == 1
    assert np.isnan(fit.alpha[[5, 7]]).all() and np.isnan(fit.coef[[5, 7]]).all()
    assert fit.dof[8] == 0 and np.isfinite(fit.coef[8]).all()
    others = np.setdiff1d(np.arange(len(y)), [3, 5, 7, 8])
    np.testing.assert_array_equal(fit.alpha[others], plain.alpha[others])


def test_starts_of_each_voxel_from_bins_and_neighbours_and_what_is_left_out():
    cube = voxels(36, seed=6).reshape(6, 6, -1)
    plain = vp.fit_many(FREE, T, cube)
    for start in ("global", "binned", "neighbours"):
        again = vp.fit_many(FREE, T, cube, start=start, binning=3)
        np.testing.assert_allclose(again.chisq, plain.chisq, rtol=1e-6)
    own = vp.fit_many(FREE, T, cube, init={"a.freq": plain["a.freq"].value})
    np.testing.assert_allclose(own.chisq, plain.chisq, rtol=1e-6)


# The distance of a complex residual is what all losses have in common. Batches with each of them:
# tests/test_batch.py; a complex one with another loss, and each loss of a complex residual: tests/test_noise.py.
def test_a_robust_loss_takes_a_complex_residual_by_its_distance():
    y = Y[:3].copy()
    y[:, ::13] += 3.0 * np.exp(1j * np.arange(len(y[0, ::13])))
    scale = 0.1
    batch = vp.fit_many(FREE, T, y, noise="huber", loss_scale=scale, ftol=1e-14)
    i = 1
    at = np.r_[batch.alpha[i], batch.coef[i].real, batch.coef[i].imag]

    def loss(u):
        v = at * u
        waves = np.exp(np.outer(T, [2j * np.pi * v[0] - v[1], 2j * np.pi * v[2] - v[3]]))
        z = np.abs((waves @ (v[4:6] + 1j * v[6:]) - y[i]) / scale)
        return np.where(z <= 1, z**2, 2 * z - 1).sum()

    best = minimize(loss, np.ones(8), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(best.x, 1.0, atol=2e-4)
    one = vp.fit(FREE, T, y[i], noise="huber", loss_scale=scale)
    assert one.success and np.all(np.abs(one.alpha - batch.alpha[i]) < 1e-3 * one.alpha_stderr)
    np.testing.assert_allclose(one.coef_stderr, batch.coef_stderr[i], rtol=1e-3)


def test_real_columns_and_single_precision():
    y = voxels(40, seed=8) + (0.3 - 0.2j)
    mixed = vp.ComplexExp("a", freq=11.0, rate=18.0) + vp.Constant("dc")
    wave = lambda v: np.exp((2j * np.pi * v[0] - v[1]) * T)  # noqa: E731
    for model, columns in (
        (mixed, lambda v: np.stack([wave(v), np.ones(T.size)], axis=1)),
        (vp.Exp("d", tau=0.1), lambda v: np.exp(-T / v[0])[:, None]),
    ):
        batch = vp.fit_many(model, T, y)

        def coef(v, columns=columns):
            return np.linalg.lstsq(columns(v), y[1], rcond=None)[0]

        def resid(v, columns=columns, coef=coef):
            r = y[1] - columns(v) @ coef(v)
            return np.r_[r.real, r.imag]

        tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        best = least_squares(resid, 1.01 * batch.alpha[1], x_scale="jac", **tight)
        np.testing.assert_allclose(batch.alpha[1], best.x, rtol=1e-4)
        np.testing.assert_allclose(batch.coef[1], coef(best.x), rtol=1e-4)
        assert batch.chisq[1] == pytest.approx(2 * best.cost, rel=1e-8)
    single = vp.fit_many(mixed, T, y.astype(np.complex64))
    assert single.alpha.dtype == np.float32 and single.coef.dtype == np.complex64
    double = vp.fit_many(mixed, T, y)
    assert np.abs((single.alpha - double.alpha) / double.alpha_stderr).max() < 0.1


def test_curves_share_a_receiver_and_have_the_rest_to_themselves():
    line = vp.ComplexExp("a", freq=11.0, rate=18.0, receiver=RX)
    y = Y[:2] * np.exp(-1j * np.angle(Y[:2, :1]))
    shared = vp.fit_many(line, T, y, share="rx.*", real_coefficients=True)
    sets = {f"v{i}": (T, one) for i, one in enumerate(y)}
    joint = vp.fit(line, sets, share=["rx.*"], real_coefficients=True)
    assert shared.shared == ("rx.phase",)
    phase = shared["rx.phase"]
    assert phase.value[0] == pytest.approx(joint["rx.phase"].value, abs=1e-6)
    assert phase.stderr[0] == pytest.approx(joint["rx.phase"].stderr, rel=1e-4)
    np.testing.assert_allclose(shared["a"].value[1], joint["v1"].coef[0], rtol=1e-5)
    np.testing.assert_allclose(shared["a.freq"].value[1], joint["v1.a.freq"].value, rtol=1e-5)


def test_lines_share_their_widths_with_complex_coefficients():
    wave = vp.ComplexExp("a", freq=11.0, rate=18.0)
    y, sets = Y[:2], {f"v{i}": (T, one) for i, one in enumerate(Y[:2])}
    shared, joint = vp.fit_many(wave, T, y, share="*.rate"), vp.fit(wave, sets, share=["*.rate"])
    np.testing.assert_allclose(shared["a.rate"].value[0], joint["a.rate"].value, rtol=1e-5)
    np.testing.assert_allclose(shared["a.rate"].stderr[0], joint["a.rate"].stderr, rtol=1e-4)
    np.testing.assert_allclose(shared["a.freq"].value[1], joint["v1.a.freq"].value, rtol=1e-5)
    dof = 2 * y.size - 1 - 2 * 3
    assert joint.dof == dof


def test_columns_of_one_data_set_and_files(tmp_path):
    batch = vp.fit(REAL, T, Y.T, share="none", real_coefficients=True)
    np.testing.assert_array_equal(
        batch.alpha, vp.fit_many(REAL, T, Y, real_coefficients=True).alpha
    )
    cube = vp.fit_many(FREE, T, Y.reshape(5, 8, -1))
    cube.save(tmp_path / "cube.nc")
    assert vp.load(tmp_path / "cube.nc").equals(cube)
    maps = cube.to_dataset()
    np.testing.assert_array_equal(maps["a"], cube["a"].value)
    assert "  |a| " in cube.report() and "  a.freq " in cube.report()


def test_figures_show_both_parts_and_size_and_phase():
    image = Y.reshape(5, 8, -1)
    cube = vp.fit_many(FREE, T, image)
    fig = cube.plot(image, index=[(0, 1)])
    line = {one.get_label(): one for one in fig.axes[0].get_lines()}
    np.testing.assert_allclose(line["imag"].get_ydata(), cube.predict((0, 1)).imag)
    maps = cube.plot_maps(["a.freq", "a"])
    titles = {ax.get_title(loc="left"): ax for ax in maps.axes}
    np.testing.assert_array_equal(
        titles["|a|"].get_images()[0].get_array(), np.abs(cube["a"].value)
    )
    phase = titles["a, phase"].get_images()[0].get_array()
    np.testing.assert_array_equal(phase, np.angle(cube["a"].value))


def test_new_numbers_compile_nothing():
    vp.fit_many(FREE, T, Y)
    made = RECENT.made
    vp.fit_many(FREE, T, 3j * Y, init={"a.freq": 10.5})
    assert RECENT.made == made


def test_what_cannot_be_is_refused():
    with pytest.raises(vp.InputError, match="for counts, but y is complex"):
        vp.fit_many(FREE, T, Y, noise="poisson")
    with pytest.raises(vp.InputError, match="for counts, but y is complex"):
        vp.fit(FREE, T, Y[0], noise="poisson")
    with pytest.raises(vp.InputError, match="The model is complex, but y is real"):
        vp.fit_many(FREE, T, Y.real)


def test_real_data_have_nothing_to_make_real():
    x = (np.arange(40) + 0.5) * 0.2
    y = np.exp(-x / np.array([[1.0], [2.0]]))
    y += 0.01 * np.random.default_rng(0).normal(size=y.shape)
    plain = vp.fit_many(vp.Exp("d", tau=1.5), x, y)
    same = vp.fit_many(vp.Exp("d", tau=1.5), x, y, real_coefficients=True)
    assert same.equals(plain)
