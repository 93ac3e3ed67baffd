"""Every example runs, draws, and finds what it says that it finds."""

import pathlib
import runpy

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def decay(found):
    # Means of twelve samples say the same as the samples.
    for name in ("fast.tau", "slow.tau"):
        one, other = found["fit"][name], found["coarse"][name]
        assert abs(one.value - other.value) < 2 * other.stderr and one.stderr < other.stderr


def peaks(found):
    for name, value in found["certified"].items():
        assert found["fit"][name].value == pytest.approx(value, rel=1e-8)


def photon_counting(found):
    fit = found["fit"]
    for name, truth in (("fast.tau", 0.42), ("slow.tau", 2.6), ("irf.shift", 0.031)):
        assert abs(fit[name].value - truth) < 4 * fit[name].stderr
    assert abs(fit.redchi - 1) < 0.15 and found["rough"].redchi > 2


def global_analysis(found):
    # The target analysis that the Glotaran developers publish with these data starts from a width
    # of 1.55 ps; their sequential one has rates of 0.2, 0.07 and 0.02 per ps as starts.
    fit = found["fit"]
    assert fit.success and fit["irf.width"].value == pytest.approx(1.55, abs=0.06)
    assert fit["s3.tau"].value == pytest.approx(50.0, rel=0.05)
    assert np.all(fit["dark"].value > 0)


def scheme(found):
    # A chain and parallel decays span the same space.
    fit, other = found["fit"], found["other"]
    assert fit.chisq == pytest.approx(other.chisq, rel=1e-8)
    for arrow, name in zip(found["rates"], found["lifetimes"], strict=True):
        assert 1 / fit[f"psi.{arrow}"].value == pytest.approx(other[f"{name}.tau"].value, rel=1e-4)


def image(found):
    assert found["fit"].success.mean() > 0.999
    for kind in (1.1, 2.2):
        these = found["tau"] == kind
        assert np.median(found["found"][these]) == pytest.approx(kind, rel=0.01)


def spectrum(found):
    fit, plain = found["fit"], found["plain"]
    assert fit.success and plain.success
    for name, (_, _, amplitude) in found["truth"].items():
        assert abs(fit[name].value - amplitude) < 3 * fit[name].stderr
    # Prior knowledge tells overlapping lines apart.
    assert fit["alpha1"].stderr < 0.1 * plain["alpha1"].stderr
    # Every voxel of the row for itself.
    row = found["row"]
    assert row.success.all()
    wanted = {"PCr": 10.0 - found["used"], "receiver.phase": found["turn"]}
    for name, value in ({"Pi.freq": 251.0 + found["moved"]} | wanted).items():
        assert np.all(np.abs(row[name].value - value[:, 0]) < 4 * row[name].stderr)


def flow(found):
    fit, some = found["fit"], found["some"]
    for f, growth in found["truth"].items():
        i = int(np.argmin(np.abs(fit.frequency - f)))
        assert abs(fit.frequency[i] - f) < 4 * fit.stderr[i].imag / (2 * np.pi)
        assert abs(fit.growth[i] - growth) < 4 * fit.stderr[i].real
        assert np.abs(some.frequency - f).min() < 0.01
        assert fit.bags.stderr[i].imag == pytest.approx(fit.stderr[i].imag, rel=0.5)
    # Exact decomposition of twelve noisy points loses a wave.
    assert np.abs(found["exact"].imag / (2 * np.pi) - 0.83).min() > 0.2


def calibration(found):
    np.testing.assert_allclose(found["exact"], found["central"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["answer"], found["truth"], atol=0.02)


def equation(found):
    fit = found["fit"]
    for name, value in found["truth"].items():
        assert abs(fit[name].value - value) < 3 * fit[name].stderr
    assert found["plain"].redchi > 2 * fit.redchi


def comparison(found):
    said = found["comparison"]
    weight = dict(zip(said.names, said.weights, strict=True))
    assert said.best == "pseudo-Voigt" and weight["Gaussian"] + weight["Lorentzian"] < 1e-30
    assert weight["sum, two centres"] < weight["sum, one centre"]


def profile(found):
    # Bates and Watts 1988, 6.1: the profile has no rate below zero and is unequal, unlike this.
    covariance, exact = found["answers"]["covariance"]["k"], found["answers"]["profile"]["k"]
    assert covariance.lower < 0 < exact.lower < 0.15 and exact.upper > 1.7
    assert found["fit"]["k"].value == pytest.approx(0.5311, abs=1e-4)
    assert found["fit"]["total"].value == pytest.approx(19.143, abs=1e-3)


def perfusion(found):
    # Noise is never below zero here, which lifts the median of a fraction of 4 % a little.
    body, lesion, fraction = found["body"], found["lesion"], found["found"]
    assert np.nanmedian(fraction[lesion]) == pytest.approx(0.045, abs=0.012)
    assert np.nanmedian(fraction[body & ~lesion]) == pytest.approx(0.22, abs=0.01)
    assert (found["fit"].coef[body] >= 0).all() and found["negative"].sum() > 0


def doublet(found):
    fit, derived = found["fit"], found["fit"].derived
    for name, (center, sigma, _, area) in found["truth"].items():
        for key, value in (("center", center), ("sigma", sigma)):
            one = fit[f"{name}.{key}"]
            assert abs(one.value - value) < 4 * one.stderr
        assert abs(fit[name].value - area) < 4 * fit[name].stderr
    assert abs(derived["oxidised"].value - 0.4) < 4 * derived["oxidised"].stderr
    assert abs(derived["shift"].value - 4.8) < 4 * derived["shift"].stderr
    assert abs(fit.redchi - 1) < 0.25 and found["heights"].chisq > fit.chisq + 100


def dispersion(found):
    fit = found["fit"]
    truth = {
        **{"irf.center": 1.2, "irf.width": 0.06},
        **{"irf.center_dispersion1": 0.3, "irf.center_dispersion2": -0.08},
        **{"s1.tau": 2.0, "s2.tau": 22.0, "s3.tau": 90.0},
    }
    assert fit.success
    for name, value in truth.items():
        # Errors of weights that are estimated from thirty samples are a tenth too small.
        assert abs(fit[name].value - value) < 4.5 * fit[name].stderr, name


def network(found):
    # In half the steps; from one start, so that this is of this run alone, far from a tie.
    for without, whole in found["losses"].values():
        assert without < 0.9 * whole and without < 0.3


def super_resolution(found):
    fit = found["fit"]
    assert fit.success
    for name, value in found["truth"].items():
        assert abs(fit[name].value - value) < 0.02
        assert abs(fit[name].value - value) < 5 * fit[name].stderr
    # Nearer to the scene than the frame that is where the scene is, each of its pixels twice.
    scene, one = found["scene"], np.kron(found["frames"][0], np.ones((2, 2)))
    assert np.linalg.norm(fit.coef - scene) < 0.8 * np.linalg.norm(one - scene)


def lifetimes(found):
    fit, draws = found["fit"], found["draws"]
    assert draws.findings == ()
    one, other = fit.ci()["slow.tau"], draws.ci()["slow.tau"]
    assert other.upper - other.value > 1.2 * (other.value - other.lower)
    assert other.lower < found["truth"]["slow.tau"] < other.upper
    assert one.lower < other.lower


def plate(found):
    plate, inhibitor = found["plate"], found["inhibitor"]
    assert plate.counts.get("no_data") == 2 and plate.success.sum() >= 93
    wanted = 0.3 / (1 + inhibitor / 6.0)
    rates = np.where(plate.success, 1 / plate["rise.tau"].value, np.nan)
    # The slowest wells tell of half a rise: medians of eight are good to a few hundredths.
    np.testing.assert_allclose(np.nanmedian(rates, axis=0), wanted, rtol=0.1)
    curve = found["curve"]
    assert abs(curve["Ki"].value - 6.0) < 4 * curve["Ki"].stderr


CLAIMS = {
    "01_one_decay": decay,
    "02_peaks_and_baseline": peaks,
    "03_photon_counting": photon_counting,
    "04_global_analysis": global_analysis,
    "05_kinetic_scheme": scheme,
    "06_image": image,
    "07_damped_oscillations": spectrum,
    "08_dynamic_modes": flow,
    "09_learn_a_calibration": calibration,
    "10_a_basis_of_an_ode": equation,
    "11_model_comparison": comparison,
    "12_bootstrap_and_profile": profile,
    "13_xps_doublet": doublet,
    "14_perfusion_map": perfusion,
    "15_a_network_with_a_linear_layer": network,
    "16_transient_absorption_with_dispersion": dispersion,
    "18_super_resolution": super_resolution,
    "19_posterior_of_lifetimes": lifetimes,
    "17_a_plate_of_curves": plate,
}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were open when the script asked to show them."""
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.extend(map(plt.figure, plt.get_fignums())))
    wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    with matplotlib.rc_context({"backend": "agg"}):
        yield figures
        plt.close("all")
    jax.config.update("jax_enable_x64", wide)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_draws_and_finds_what_it_says(path, drawn):
    jax.config.update("jax_enable_x64", False)
    found = runpy.run_path(str(path), run_name="__main__")
    for figure in drawn:
        figure.canvas.draw()
    assert drawn
    CLAIMS.get(path.stem, lambda found: None)(found)


def test_every_example_has_a_claim():
    assert {path.stem for path in SCRIPTS} >= {*CLAIMS}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_begins_with_its_title(path):
    text = path.read_text(encoding="utf-8").splitlines()
    assert len(text) < 120
    assert text[0] == '"""' and text[2] == "=" * len(text[1])
