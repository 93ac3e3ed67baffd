"""Relations that hold for some right-hand sides, against dense problems of all parameters solved by SciPy."""

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

import varpro as vp

NM = np.array([400.0, 450.0, 500.0, 550.0, 600.0, 650.0])
T = np.linspace(0.0, 20.0, 60)
RNG = np.random.default_rng(11)
TRUE = np.array([[2.0, 1.5, 1.0, 0.6, 0.0, 0.0], [1.0, 0.75, 1.5, 2.0, 1.2, 0.7]])
Y = np.exp(-T[:, None] / np.array([1.0, 6.0])) @ TRUE + 0.02 * RNG.normal(size=(60, 6))
MODEL = vp.Exp("a", tau=0.8) + vp.Exp("b", tau=5.0)
RULES = {"a": vp.Within((575, 700), 0.0), "b": vp.Within((400, 450), {"a": 0.5})}
# Of each right-hand side all coefficients from those that are free.
MIXES = [np.array([[1.0], [0.5]])] * 2 + [np.eye(2)] * 2 + [np.array([[0.0], [1.0]])] * 2


def labelled(y=Y, nm=NM):
    return pd.DataFrame(y, columns=pd.Index(nm, name="wavelength"))


def dense(resid, start):
    """Least squares of all parameters: values and standard errors."""
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 4000}
    end = scipy.optimize.least_squares(resid, start, x_scale="jac", jac="3-point", **tight)
    dof = end.fun.size - end.x.size
    cov = np.linalg.inv(end.jac.T @ end.jac) * 2.0 * end.cost / dof
    return end.x, np.sqrt(np.diagonal(cov)), 2.0 * end.cost


def parts(z, mixes=MIXES):
    """Lifetimes, and all coefficients (2, k)."""
    free = np.split(z[2:], np.cumsum([m.shape[1] for m in mixes])[:-1])
    return z[:2], np.stack([m @ c for m, c in zip(mixes, free, strict=True)], 1)


def errors_of(stderr, mixes=MIXES):
    free = np.split(stderr[2:], np.cumsum([m.shape[1] for m in mixes])[:-1])
    return np.stack([np.abs(m) @ c for m, c in zip(mixes, free, strict=True)], 1)


def model(z, mixes=MIXES, t=T):
    tau, coef = parts(z, mixes)
    return np.exp(-t[:, None] / tau) @ coef


START = np.r_[0.9, 5.5, np.full(8, 1.0)]


def test_relations_within_wavelengths_are_those_of_a_dense_fit_with_errors():
    fit = vp.fit(MODEL, T, labelled(), relations=RULES)
    z, stderr, chisq = dense(lambda z: (Y - model(z)).ravel(), START)
    tau, coef = parts(z)
    assert fit.success
    np.testing.assert_allclose(fit.alpha, tau, rtol=1e-7)
    np.testing.assert_allclose(fit.coef, coef, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.chisq, chisq, rtol=1e-9)
    assert fit.dof == 6 * 60 - 10
    np.testing.assert_allclose([fit[n].stderr for n in fit.names], stderr[:2], rtol=1e-5)
    mine = np.array([fit[name].stderr for name in ("a", "b")])
    held = coef == 0
    np.testing.assert_allclose(mine[~held], errors_of(stderr)[~held], rtol=1e-5)
    assert np.all(mine[held] == 0) or np.all(np.isnan(mine[held]))


def test_truth_values_and_several_intervals_say_the_same():
    by_label = vp.fit(MODEL, T, labelled(), relations={"a": vp.Within([(400, 410), (645, 650)], 0)})
    mask = (NM < 420) | (NM > 640)
    by_truth = vp.fit(MODEL, T, Y, relations={"a": vp.Within(mask, 0.0)})
    np.testing.assert_allclose(by_truth.coef, by_label.coef, rtol=1e-12)
    by_bounds = {"a": (np.where(mask, 0.0, -np.inf), np.where(mask, 0.0, np.inf))}
    same = vp.fit(MODEL, T, Y, bounds=by_bounds)
    np.testing.assert_allclose(by_label.coef, same.coef, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(by_label.alpha, same.alpha, rtol=1e-9)


def test_of_several_data_sets_each_has_its_own_wavelengths():
    # At 20 less: of the first right-hand side nothing is said then, and of the others as before.
    places = [2, 1, 2, 3, 4, 5]
    other = 2.0 * Y[:, places]
    sets = {"one": (T, labelled()), "two": (T, labelled(other, NM - 20.0))}
    fit = vp.fit(MODEL, sets, relations=RULES)
    mixes = [*MIXES, *(MIXES[i] for i in places)]
    both = np.concatenate([Y, other], axis=1)
    start = np.r_[0.9, 5.5, np.full(sum(m.shape[1] for m in mixes), 1.0)]
    z, stderr, _ = dense(lambda z: (both - model(z, mixes)).ravel(), start)
    tau, coef = parts(z, mixes)
    np.testing.assert_allclose(fit.alpha, tau, rtol=1e-7)
    found = np.concatenate([fit["one"].coef, fit["two"].coef], axis=1)
    np.testing.assert_allclose(found, coef, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose([fit[n].stderr for n in fit.names], stderr[:2], rtol=1e-5)


def test_counts_under_a_relation_are_at_the_maximum_of_their_likelihood():
    rate = 300.0 * np.exp(-T[:, None] / np.array([1.0, 6.0])) @ TRUE + 0.5
    counts = RNG.poisson(rate).astype(float)
    whole = MODEL + vp.Constant("c")
    rules = {"a": vp.Within((575, 700), 0.0), "b": vp.Within((400, 450), {"a": 0.5})}
    fit = vp.fit(whole, T, labelled(counts), relations=rules, noise="poisson")
    mixes = [np.array([[1.0, 0], [0.5, 0], [0, 1]])] * 2 + [np.eye(3)] * 2
    mixes += [np.array([[0, 0], [1.0, 0], [0, 1]])] * 2

    def fitted(z):
        tau, coef = parts(z, mixes)
        return np.exp(-T[:, None] / tau) @ coef[:2] + coef[2]

    def score(z):
        # The derivative of the likelihood is zero at its maximum.
        mean = fitted(z)
        step = 1e-6 * np.maximum(np.abs(z), 1.0)
        return [
            np.sum((counts / mean - 1.0) * (fitted(z + d) - fitted(z - d)) / (2 * s))
            for s, d in zip(step, np.diag(step), strict=True)
        ]

    free = [np.linalg.lstsq(m, fit.coef[:, j], rcond=None)[0] for j, m in enumerate(mixes)]
    mine = np.r_[fit.alpha, np.concatenate(free)]
    np.testing.assert_allclose(fitted(mine), fit.fitted, rtol=1e-9)
    end = scipy.optimize.root(score, mine, tol=1e-12)
    np.testing.assert_allclose(mine, end.x, rtol=1e-5, atol=1e-4)


def test_a_fit_with_such_relations_is_saved_and_drawn_again(tmp_path):
    fit = vp.fit(MODEL, T, labelled(), relations=RULES)
    fit.save(tmp_path / "fit.nc")
    assert vp.load(tmp_path / "fit.nc").equals(fit)
    drawn = fit.bootstrap(8, key=1)
    assert np.all(np.asarray(drawn.coef)[..., 0, 4:] == 0)
    with pytest.raises(vp.InputError, match="so a profile cannot hold it"):
        fit.ci(method="profile", names="b", rhs=2)


def test_relations_within_nothing_are_refused():
    for relations, says in (
        ({"b": vp.Within((400, 450), {"a": 0.5})}, "labelled with numbers"),
        ({"b": vp.Within([True, False], 0.0)}, "expected 6 truth values"),
    ):
        with pytest.raises(vp.InputError, match=says):
            vp.fit(MODEL, T, Y, relations=relations)
    half = vp.Within((400, 450), {"a": 0.5})
    for options, says in (
        ({"relations": {"b": vp.Within((100, 200), 0.0)}}, "go from 400 to 650"),
        ({"relations": {"b": half}, "nonnegative": True}, "cannot have bounds or be nonnegative"),
        ({"relations": {"b": vp.Within((400, 450), -1.0)}, "nonnegative": True}, "outside its"),
        ({"relations": {"b": half, "a": vp.Within((400, 450), {"b": 2.0})}}, "follows others"),
        ({"relations": {"b": half}, "share": "none"}, "share their parameters"),
    ):
        with pytest.raises(vp.InputError, match=says):
            vp.fit(MODEL, T, labelled(), **options)
    with pytest.raises(vp.InputError, match="vp.Within is for real coefficients"):
        vp.fit(MODEL, T, labelled(Y + 0j), relations=RULES)
    for sides in ((500, 400), "blue", (1.0, 2.0, 3.0), (np.nan, 2.0), []):
        with pytest.raises(vp.InputError, match="vp.Within: "):
            vp.Within(sides, 0.0)
