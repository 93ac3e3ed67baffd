"""Starts of waves are found in the spectrum: of complex and real data, at even and uneven times."""

import numpy as np
import pytest

import varpro as vp

T = np.arange(128) * 4e-3


def waves(kind, count, **every):
    return sum(kind(f"w{i}", **every) for i in range(count))


def lines(rng, t, count, noise, real=False):
    """A signal of waves at least 8 apart, with frequencies and rates."""
    low = 6.0 if real else -90.0
    while True:
        freq = np.sort(rng.uniform(low, 90.0, count))
        if count == 1 or np.diff(freq).min() > 8:
            break
    rate = rng.uniform(5.0, 20.0, count)
    size = rng.uniform(0.4, 1.0, count) * np.exp(1j * rng.uniform(-3, 3, count))
    y = np.exp(np.outer(t, 2j * np.pi * freq - rate)) @ size
    y = y + noise * (rng.normal(size=t.size) + 1j * rng.normal(size=t.size))
    return (y.real if real else y), freq, rate


def found(starts, key):
    return np.array([v for name, v in starts.items() if name.endswith(key)])


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_waves_are_found_where_they_are(rng, even, real, count):
    near = 0
    for _ in range(8):
        t = T if even else np.sort(rng.uniform(0.0, T[-1], 2 * T.size))
        y, freq, rate = lines(rng, t, count, 0.01, real)
        kind = vp.Oscillation if real else vp.ComplexExp
        starts = vp.find_starts(waves(kind, count, rate=vp.Param(lower=0.0)), t, y)
        right = np.abs(found(starts, "freq") - freq).max() < 1.0
        near += right and np.all(np.abs(found(starts, "rate") / rate - 1) < 0.5)
    assert near >= 7


def test_the_fit_from_found_starts_ends_where_the_fit_from_the_truth_ends(rng):
    reached = 0
    for _ in range(5):
        y, freq, rate = lines(rng, T, 3, 0.05)
        true = sum(
            vp.ComplexExp(f"w{i}", freq=f, rate=r)
            for i, (f, r) in enumerate(zip(freq, rate, strict=True))
        )
        fit = vp.fit(waves(vp.ComplexExp, 3, rate=vp.Param()), T, y)
        reached += fit.cost <= vp.fit(true, T, y).cost * (1 + 1e-6)
    assert reached >= 4


@pytest.mark.parametrize("key", ["rate", "tau", "fwhm", "gaussian"])
def test_decays_are_found_however_they_are_said(rng, key):
    value = {"rate": 12.0, "tau": 1 / 12.0, "fwhm": 4.0, "gaussian": 6.0}[key]
    wave = vp.ComplexExp("w", **{"freq": 30.0, key: value})
    y = np.asarray(wave.evaluate(T, {"freq": np.array(30.0), key: np.array(value)}))[:, 0]
    y = y + 0.01 * (rng.normal(size=T.size) + 1j * rng.normal(size=T.size))
    starts = vp.find_starts(vp.ComplexExp("w", **{key: vp.Param()}), T, y)
    assert starts["w.freq"] == pytest.approx(30.0, abs=0.3)
    assert starts[f"w.{key}"] == pytest.approx(value, rel=0.1)


@pytest.mark.parametrize("envelope", ["exponential", "gaussian"])
def test_oscillations_of_either_envelope_on_a_decaying_background(rng, envelope):
    t = np.linspace(0.0, 10.0, 1500)
    decay = np.exp(-t / 2.5) if envelope == "exponential" else np.exp(-0.5 * (t / 2.5) ** 2)
    y = 0.5 * decay * np.cos(2 * np.pi * 9.0 * t + 0.7) + 2 * np.exp(-t / 1.5) + 0.3
    y = y + 0.02 * rng.normal(size=t.size)
    model = vp.Oscillation("w", tau=vp.Param(), envelope=envelope)
    model += vp.Exp("slow") + vp.Constant("level")
    starts = vp.find_starts(model, t, y)
    assert starts["w.freq"] == pytest.approx(9.0, abs=0.05)
    assert starts["w.tau"] == pytest.approx(2.5, rel=0.3)
    assert starts["slow.tau"] == pytest.approx(1.5, rel=0.3)


def test_bounds_order_ties_and_what_is_given_are_kept(rng):
    y, freq, rate = lines(rng, T, 3, 0.02)
    model = waves(vp.ComplexExp, 3, rate=vp.Param())
    high = vp.find_starts(model, T, y, bounds={"w0.freq": (freq[2] - 3, freq[2] + 3)})
    assert abs(high["w0.freq"] - freq[2]) < 1.0
    np.testing.assert_allclose(sorted(found(high, "freq")), freq, atol=1.0)
    turned = vp.find_starts(model, T, y, order=[("w2.freq", "w0.freq")])
    assert turned["w2.freq"] < turned["w0.freq"]
    given = vp.find_starts(model, T, y, init={"w1.freq": freq[0], "w1.rate": rate[0]})
    assert given["w1.freq"] == freq[0]
    np.testing.assert_allclose(sorted(found(given, "freq")), freq, atol=1.0)
    tied = vp.fit(model, T, y, tie={"w1.rate": "w0.rate", "w2.rate": "w0.rate"})
    assert tied["w1.rate"].value == tied["w0.rate"].value
    assert np.abs(found({n: tied[n].init for n in tied.names}, "freq") - freq).max() < 1.5


def test_waves_without_decay_masked_samples_and_many_columns(rng):
    t = np.arange(200) * 0.05
    y = np.stack([np.cos(2 * np.pi * 3.2 * t + p) for p in (0.0, 1.0, 2.0)], axis=1)
    y = y + 0.3 * rng.normal(size=y.shape)
    keep = rng.uniform(size=t.size) > 0.3
    y[~keep] = 1e6
    starts = vp.find_starts(vp.Oscillation("w"), t, y, mask=keep)
    assert starts == {"w.freq": pytest.approx(3.2, abs=0.01)}


def test_voxels_of_any_phase_find_a_start_that_their_mean_would_not(rng):
    phase = np.exp(2j * np.pi * np.arange(12) / 12)
    y = phase[:, None] * np.exp((2j * np.pi * 23.0 - 15.0) * T)
    y = y + 0.02 * (rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape))
    batch = vp.fit_many(vp.ComplexExp("w", rate=vp.Param(lower=0.0)), T, y)
    assert batch.success.all()
    np.testing.assert_allclose(batch["w.freq"].value, 23.0, atol=0.1)


def test_an_oscillation_behind_a_response_still_needs_a_start():
    irf = vp.GaussianIRF("irf", center=0.05, width=0.01)
    with pytest.raises(vp.InputError, match=r"No start can be found for w\.freq"):
        vp.find_starts(vp.Oscillation("w", irf=irf), T, np.sin(T))
