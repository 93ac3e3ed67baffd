"""Data sets whose coefficients are the same but for scales, against one dense problem."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

import varpro as vp

TIMES = {"a": np.linspace(0.0, 9.0, 40), "b": np.linspace(0.2, 6.0, 31)}
NM = {"a": np.array([400.0, 410.0, 420.0, 430.0]), "b": np.array([420.0, 430.0, 440.0])}
EVERY = np.array([400.0, 410.0, 420.0, 430.0, 440.0])
AT = {key: np.searchsorted(EVERY, nm) for key, nm in NM.items()}
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("dark")


def curve(z):
    """Both data sets for two lifetimes, the scale, and all coefficients."""
    out, spectra, dark = {}, z[3:13].reshape(2, 5), {"a": z[13:17], "b": z[17:20]}
    for key, t in TIMES.items():
        phi = np.exp(-t[:, None] / z[:2]) * (z[2] if key == "b" else 1.0)
        out[key] = phi @ spectra[:, AT[key]] + dark[key]
    return out


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(3)
    truth = np.r_[0.8, 4.0, 1.3, rng.uniform(1, 3, 10), rng.uniform(0.0, 0.5, 7)]
    clean = curve(truth)
    return {
        key: (
            t,
            pd.DataFrame(clean[key] + 0.01 * rng.normal(size=clean[key].shape), columns=NM[key]),
        )
        for key, t in TIMES.items()
    }


@pytest.fixture(scope="module")
def fit(frames):
    return vp.fit(MODEL, frames, link=["fast", "slow"], scale={"b": 1.0})


def test_linked_coefficients_are_those_of_the_dense_problem(fit, frames):
    values = {key: y.to_numpy() for key, (_, y) in frames.items()}

    def resid(z):
        return np.concatenate([(curve(z)[key] - y).ravel() for key, y in values.items()])

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    best = least_squares(
        resid,
        np.r_[0.7, 4.5, 1.2, np.full(10, 2.0), np.full(7, 0.2)],
        jac="3-point",
        method="lm",
        **tight,
    )
    z, chisq, dof = best.x, 2 * best.cost, best.jac.shape[0] - best.jac.shape[1]
    error = np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac)) * chisq / dof)
    assert fit.success and fit.names == ("fast.tau", "slow.tau", "b.scale")
    assert fit.dof == dof and fit.num_params == 20
    np.testing.assert_allclose(fit.chisq, chisq, rtol=1e-11)
    np.testing.assert_allclose(fit.alpha, z[:3], rtol=1e-8)
    # Kaufman's Jacobian leaves out terms of the size of the residual.
    np.testing.assert_allclose(fit.alpha_stderr, error[:3], rtol=0.01)
    for i, name in enumerate(("fast", "slow")):
        for key, at in AT.items():
            one = fit[f"{key}.{name}"]
            np.testing.assert_allclose(one.value, z[3:13].reshape(2, 5)[i, at], rtol=1e-7)
            np.testing.assert_allclose(one.stderr, error[3:13].reshape(2, 5)[i, at], rtol=0.01)
    np.testing.assert_allclose(fit["b.dark"].value, z[17:], rtol=1e-6)
    np.testing.assert_allclose(fit["b.dark"].stderr, error[17:], rtol=0.01)
    for key, one in fit.sets.items():
        np.testing.assert_allclose(one.fitted, curve(z)[key], atol=1e-8)
        np.testing.assert_allclose(one.predict(), one.fitted, atol=1e-12)
        np.testing.assert_allclose(sum(one.components().values()), one.fitted, atol=1e-12)
    spread = np.sqrt(
        np.einsum("ip,pq,iq->i", best.jac, np.linalg.inv(best.jac.T @ best.jac), best.jac)
    )
    band = fit["b"].predict(band=0.9)
    np.testing.assert_allclose(
        band.stderr.ravel(), spread[-band.stderr.size :] * np.sqrt(chisq / dof), rtol=0.02
    )


def test_the_whole_has_its_verbs_and_comes_back_from_a_file(fit, tmp_path):
    assert "b.scale" in fit.report() and set(fit.to_frame()["dataset"]) == {"a", "b"}
    one = fit.derive("slow.tau / fast.tau * b.scale")
    assert one.value == pytest.approx(fit.alpha[1] / fit.alpha[0] * fit.alpha[2])
    assert fit.plot().axes
    fit.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    assert again == fit
    np.testing.assert_array_equal(again["b"].predict(), fit["b"].predict())


def test_what_cannot_be_linked_is_refused(frames):
    plain = {key: (t, y.to_numpy()) for key, (t, y) in frames.items()}
    words = {
        key: (t, y.set_axis([f"{key}{c}" for c in y], axis=1)) for key, (t, y) in frames.items()
    }
    words["b"] = (words["b"][0], words["b"][1].assign(more=1.0))
    held = vp.Param(1.0, fixed=True)
    for text, sets, options in (
        ("differ in how many right-hand sides", plain, {"link": "all"}),
        ("different labels", words, {"link": "all"}),
        ("no coefficient matches 'fats'.*fast", frames, {"link": "fats"}),
        ("no data set 'c'", frames, {"link": "all", "scale": {"c": 1.0}}),
        (
            "no linked coefficient matches 'dark'",
            frames,
            {"link": "fast", "scale": {"b": {"dark": 1.0}}},
        ),
        (
            "'fast' has a scale in every data set",
            frames,
            {"link": "all", "scale": {"a": 1.0, "b": 1.0}},
        ),
        ("Say which: link=", frames, {"scale": {"b": 1.0}}),
        ("scale must be a dict", frames, {"link": "all", "scale": 2.0}),
        ("must be a number", frames, {"link": "all", "scale": {"a": held, "b": "x"}}),
    ):
        with pytest.raises(vp.InputError, match=text):
            vp.fit(MODEL, sets, **options)
    with pytest.raises(vp.InputError, match="link= is for several data sets"):
        vp.fit(MODEL, *plain["a"], link="all")
    with pytest.raises(vp.InputError, match="without a coefficient"):
        vp.fit(MODEL + vp.Offset(vp.Constant("o")), frames, link="all")
