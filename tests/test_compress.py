"""Right-hand sides that are compressed, in memory and block by block."""

import re

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import minimize_scalar

import varpro as vp
from varpro._single import fit_single as _single

# 48 right-hand sides are compressed to 41, and both run in the program of 48.
T = np.linspace(0.0, 12.0, 41)
MODEL = vp.Exp("a", tau=0.5) + vp.Exp("b", tau=6.0)


def spectra(rng, k, dtype=float):
    coef = rng.uniform(0.3, 1.0, (2, k)).astype(dtype)
    noise = rng.standard_normal((T.size, k)).astype(dtype)
    if np.dtype(dtype).kind == "c":
        coef, noise = coef * np.exp(1j), noise + 1j * rng.standard_normal((T.size, k))
    return (np.exp(-T[:, None] / [0.8, 4.0]) @ coef + 0.01 * noise).astype(dtype)


def assert_same_fit(whole: vp.FitResult, blocks: vp.CompressedFit, rtol=1e-8):
    for name in ("a.tau", "b.tau"):
        assert blocks[name].value == pytest.approx(whole[name].value, rel=rtol)
        assert blocks[name].stderr == pytest.approx(whole[name].stderr, rel=rtol)
    np.testing.assert_allclose(blocks.coef, whole.coef, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(blocks.coef_stderr, whole.coef_stderr, rtol=rtol)
    assert blocks.dof == pytest.approx(whole.dof, rel=1e-14)
    assert blocks.core.num_params == pytest.approx(whole.num_params, rel=1e-14)
    assert blocks.chisq == pytest.approx(whole.chisq, rel=rtol)
    assert blocks.redchi == pytest.approx(whole.redchi, rel=rtol)


@pytest.mark.parametrize("dtype", [float, complex])
def test_a_compression_keeps_what_a_fit_depends_on(rng, dtype):
    y = spectra(rng, 133, dtype)
    small = vp.compress([y[:, :7], y[:, 7:100], y[:, 100:]])
    assert (small.columns.shape, small.count) == ((41, 41), 133)
    np.testing.assert_allclose(
        small.columns @ small.columns.conj().T, y @ y.conj().T, rtol=1e-12, atol=1e-12
    )


def test_parts_compressed_elsewhere_are_joined(rng):
    y = spectra(rng, 90)
    parts = [vp.compress(y[:, :50]), vp.compress(y[:, 50:])]
    whole, joined = vp.compress(y), vp.compress(parts)
    assert joined.count == 90
    # A triangle is unique but for the signs of its columns.
    np.testing.assert_allclose(np.abs(joined.columns), np.abs(whole.columns), atol=1e-12)


def test_data_on_disk_are_fitted_as_those_in_memory(rng, tmp_path):
    y = spectra(rng, 48)
    disk = np.memmap(tmp_path / "y.raw", dtype=float, mode="w+", shape=y.shape)
    disk[:] = y
    whole, blocks = vp.fit(MODEL, T, y), vp.fit(MODEL, T, disk)
    assert isinstance(blocks, vp.CompressedFit)
    assert_same_fit(whole, blocks)
    np.testing.assert_allclose(blocks.amplitudes.chisq, np.sum(whole.resid**2, axis=0), rtol=1e-8)
    np.testing.assert_allclose(blocks.predict([3, 5]), whole.fitted[:, [3, 5]], atol=1e-8)


def test_blocks_of_any_width_weights_masks_and_penalties(rng):
    y = spectra(rng, 70)
    y[5] = np.nan
    options = {
        "mask": np.arange(T.size) != 5,
        "sigma": np.linspace(0.01, 0.02, T.size),
        "absolute_sigma": True,
        "ridge": 0.5,
        "relations": {"b": {"a": 0.7}},
    }
    whole = vp.fit(MODEL, T, y, **options)
    blocks = vp.fit(MODEL, T, lambda: iter([y[:, :1], y[:, 1:64], y[:, 64:]]), **options)
    assert_same_fit(whole, blocks)


def test_complex_data_in_blocks(rng):
    y = spectra(rng, 48, complex)
    blocks = vp.fit(MODEL, T, lambda: iter([y[:, :30], y[:, 30:]]))
    assert_same_fit(vp.fit(MODEL, T, y), blocks)


def test_float32_stays_float32(rng):
    y = spectra(rng, 48, np.float32)
    blocks = vp.fit(MODEL, T.astype(np.float32), vp.compress(y)).completed(y)
    assert blocks.coef.dtype == np.float32
    assert_same_fit(vp.fit(MODEL, T.astype(np.float32), y), blocks, rtol=2e-3)


def test_intervals_by_profile_are_those_of_all_data(rng):
    y = spectra(rng, 48)
    whole, blocks = vp.fit(MODEL, T, y), vp.fit(MODEL, T, vp.compress(y))
    found = blocks.ci(method="profile")
    assert found.names == ("a.tau", "b.tau")

    def chisq(tau):
        """Of all data, without the coefficients."""
        q = np.linalg.qr(np.exp(-T[:, None] / np.array(tau)))[0]
        return np.sum((y - q @ (q.T @ y)) ** 2)

    least = chisq(whole.alpha)
    wanted = scipy.stats.t.ppf(0.975, whole.dof) ** 2 * whole.redchi
    for i, ends in enumerate(zip(found.lower, found.upper, strict=True)):
        around = whole.alpha[1 - i] * np.array([0.9, 1.1])
        for end in ends:
            at = lambda other, end=end, i=i: chisq((end, other) if i == 0 else (other, end))  # noqa: E731
            other = minimize_scalar(at, bounds=around, method="bounded", options={"xatol": 1e-10})
            # Chi-square rises by 2 t for each standard error, so that this is 1e-5 of one.
            assert other.fun - least == pytest.approx(wanted, rel=1e-5)


def test_coefficients_wait_for_the_second_reading(rng):
    y = spectra(rng, 48)
    fit = vp.fit(MODEL, T, vp.compress(y))
    with pytest.raises(vp.InputError, match="second reading"):
        fit["a"]
    some = fit.of(y[:, 10:13])
    whole = vp.fit(MODEL, T, y)
    np.testing.assert_allclose(some.coef, whole.coef[:, 10:13], rtol=1e-7)
    assert "48 right-hand sides, searched as 41" in str(fit) and "a.tau" in str(fit)
    with pytest.raises(vp.InputError, match="48 right-hand sides were compressed, but 47 came"):
        fit.completed(y[:, 1:])
    with pytest.raises(vp.InputError, match="48 right-hand sides were compressed, but"):
        fit.completed(np.concatenate([y, y], axis=1))


def test_several_starts_are_searched_compressed(rng, monkeypatch):
    y, seen = spectra(rng, 48), []
    real = _single.compress
    monkeypatch.setattr(_single, "compress", lambda y: seen.append(y.shape) or real(y))
    # Ordered, for of two optima that differ in names alone rounding would choose.
    options = {"starts": 4, "bounds": {"*.tau": (0.1, 20.0)}, "order": ("a.tau", "b.tau")}
    fit = vp.fit(MODEL, T, y, compress=True, **options)
    assert seen == [(41, 48)] and fit.compressed == 41 and "searched as 41" in str(fit)
    plain = vp.fit(MODEL, T, y, compress=False, **options)
    assert seen == [(41, 48)] and plain.compressed is None
    np.testing.assert_allclose(fit.alpha, plain.alpha, rtol=1e-8)
    np.testing.assert_allclose(fit.coef_stderr, plain.coef_stderr, rtol=1e-7)
    np.testing.assert_allclose(fit.start_costs, plain.start_costs, rtol=1e-9)

    # Unasked they are compressed where that pays and where they can be mixed: this is what the search sees.
    class Searched(Exception):
        pass

    def searched(fit, points, data, linear, noise=None):
        raise Searched(data.y.shape)

    monkeypatch.setattr(_single, "run_or_rescue", searched)
    many = spectra(rng, 100)
    for data, more, shape in (
        (many, {}, "(41, 41)"),
        (many, {"nonnegative": True}, "(41, 100)"),
        (y, {}, "(41, 48)"),
    ):
        with pytest.raises(Searched, match=re.escape(shape)):
            vp.fit(MODEL, T, data, **options, **more)


def test_singular_values_of_the_residual_show_what_is_missing(rng):
    y = spectra(rng, 48)
    lacks = vp.fit(vp.Exp("a", tau=2.0), T, y).residual_spectrum(3)
    good = vp.fit(MODEL, T, y)
    noise = good.residual_spectrum(3)
    u, s, v = np.linalg.svd(good.resid)
    np.testing.assert_allclose(noise.values, s[:3])
    np.testing.assert_allclose(
        (noise.left * noise.values) @ noise.right.T, (u[:, :3] * s[:3]) @ v[:3], atol=1e-12
    )
    assert lacks.values[0] > 10 * noise.values[0] and noise.values[0] < 2 * noise.values[2]
    blocks = vp.fit(MODEL, T, vp.compress(y)).residual_spectrum(3)
    np.testing.assert_allclose(blocks.values, noise.values, rtol=1e-6)
    np.testing.assert_allclose(np.abs(blocks.left), np.abs(noise.left), atol=1e-5)


def test_a_compressed_fit_reads_back_bit_by_bit(rng, tmp_path):
    y = spectra(rng, 48)
    fit = vp.fit(MODEL, T, lambda: iter([y]))
    fit.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    assert again == fit and str(again) == str(fit)
    data = fit.to_dataset()
    np.testing.assert_array_equal(data["coef"].sel(coefficient="b"), fit["b"].value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": np.ones((41, 48))}, "sigma has shape .* cannot be compressed where their weig"),
        ({"mask": np.ones((41, 48), bool)}, "mask has shape .* cannot be compressed where"),
        ({"nonnegative": True}, "cannot be compressed: with bounds on coefficients"),
        ({"relations": {"a": 1.0}}, "cannot be compressed: a term without a coefficient"),
        ({"nan": "drop"}, "no nan="),
        ({"compress": False}, "not in memory are compressed"),
        ({"share": ["a.tau"]}, r"fits the columns of Y"),
    ],
)
def test_what_cannot_be_compressed_is_refused(rng, options, message):
    y = spectra(rng, 48)
    with pytest.raises(vp.InputError, match=message):
        vp.fit(MODEL, T, lambda: iter([y]), **options)


def test_a_compression_of_different_weights_is_refused_in_memory_too(rng):
    y = spectra(rng, 48)
    with pytest.raises(vp.InputError, match="their weights or masks differ"):
        vp.fit(MODEL, T, y, sigma=rng.uniform(1, 2, y.shape), compress=True)
    with pytest.raises(vp.InputError, match="weighs every value by itself"):
        vp.fit(MODEL, T, np.abs(y[:, 0]), noise="poisson", compress=True)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "no block"),
        ([np.ones((40, 3)), np.ones((41, 3))], "41 rows, the first one 40"),
        ([np.ones(40)], r"must be numbers \(m, k\)"),
        (
            [np.ones((40, 3)), np.full((40, 2), np.inf)],
            r"right-hand sides 3 to 4, the first at \(0, 3",
        ),
        (7, "not as int"),
    ],
)
def test_blocks_that_cannot_be_right_are_refused(blocks, message):
    with pytest.raises(vp.InputError, match=message):
        vp.compress(blocks)


def test_what_can_be_read_once_is_no_data(rng):
    y = spectra(rng, 48)
    with pytest.raises(vp.InputError, match="but 0 came in the second reading"):
        vp.fit(MODEL, T, (b for b in (y,)))
