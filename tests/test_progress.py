"""What a fit tells while it searches, and that it is the same fit."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp
from varpro._programs import program as programs

T = np.linspace(0.0, 10.0, 64)
RNG = np.random.default_rng(5)
Y = 3.0 * np.exp(-T / 0.7) + 2.0 * np.exp(-T / 4.0) + 0.02 * RNG.normal(size=T.size)
MODEL = vp.Exp("a", tau=0.5) + vp.Exp("b", tau=5.0)


def chisq(values):
    phi = np.exp(-T[:, None] / np.array([values["a.tau"], values["b.tau"]]))
    return np.sum((Y - phi @ np.linalg.lstsq(phi, Y, rcond=None)[0]) ** 2)


def test_every_step_is_told_with_chi_square_and_parameters_and_the_fit_is_the_same():
    told = []
    plain, fit = vp.fit(MODEL, T, Y), vp.fit(MODEL, T, Y, progress=told.append)
    assert fit.equals(plain)
    assert [one.step for one in told] == [*range(1, fit.num_steps + 1)]
    assert {one.search for one in told} == {1}
    for one in told:
        assert list(one.values) == ["a.tau", "b.tau"]
        np.testing.assert_allclose(one.chisq, chisq(one.values), rtol=1e-8)
    assert told[0].values == pytest.approx({"a.tau": 0.5, "b.tau": 5.0}, rel=1e-12)
    np.testing.assert_allclose([*told[-1].values.values()], fit.alpha, rtol=1e-12)
    assert told[-1].gradient < 1e-6 < told[0].gradient


def test_who_is_told_is_no_part_of_the_program():
    vp.fit(MODEL, T, Y, progress=lambda progress: None)
    made, told = programs.RECENT.made, []
    vp.fit(MODEL, T, Y, progress=told.append)
    assert told and programs.RECENT.made == made


def test_what_it_raises_ends_the_fit_and_is_raised():
    seen = []

    def stop(progress):
        seen.append(progress.step)
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        vp.fit(MODEL, T, Y, progress=stop)
    assert seen == [1]
    assert vp.fit(MODEL, T, Y).success


def test_it_may_use_jax_and_fit_itself():
    # In the middle of a program, on one core, either would wait for ever.
    inner = []

    def told(progress):
        assert threading.current_thread() is not threading.main_thread()
        inner.append((float(jnp.sum(jnp.ones((200, 200)) @ jnp.ones((200, 200)))), progress.step))
        if progress.step == 2:
            inner.append(vp.fit(MODEL, T, Y))

    fit = vp.fit(MODEL, T, Y, progress=told)
    (same,) = (one for one in inner if isinstance(one, vp.FitResult))
    assert same.equals(fit)


def test_starts_are_told_one_after_the_other(capsys):
    told = []
    fit = vp.fit(MODEL, T, Y, starts=3, progress=told.append)
    assert {one.search for one in told} == {1, 2, 3}
    assert [one.search for one in told] == sorted(one.search for one in told)
    np.testing.assert_allclose(fit.alpha, vp.fit(MODEL, T, Y).alpha, rtol=1e-6)
    vp.fit(MODEL, T, Y, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("search 1, step 1: chi-square") and "a.tau 0.5" in lines[0]


def test_several_data_sets_and_likelihoods_are_told_by_name():
    told = []
    sets = {"one": (T, Y), "two": (T, 2.0 * Y)}
    fit = vp.fit(MODEL, sets, share=["a.tau"], progress=told.append)
    assert list(told[-1].values) == list(fit.names) == ["a.tau", "one.b.tau", "two.b.tau"]
    np.testing.assert_allclose(told[-1].chisq, fit.chisq, rtol=1e-10)
    counts = RNG.poisson(100.0 * np.maximum(Y, 0.01)).astype(float)
    told.clear()
    fit = vp.fit(MODEL, T, counts, noise="poisson", progress=told.append)
    # First by least squares, then by the likelihood itself.
    assert told[-1].search > 1
    mean = fit.fitted
    deviance = 2.0 * np.sum(mean - counts + counts * np.log(np.maximum(counts, 1e-300) / mean))
    np.testing.assert_allclose(told[-1].chisq, deviance, rtol=1e-8)
    np.testing.assert_allclose([*told[-1].values.values()], fit.alpha, rtol=1e-6)


def test_progress_that_cannot_be_is_refused():
    with pytest.raises(vp.InputError, match="progress must be True, or a function"):
        vp.fit(MODEL, T, Y, progress="loud")  # pyright: ignore
    with pytest.raises(vp.InputError, match="progress= does not go here: curves"):
        vp.fit(MODEL, T, np.stack([Y, Y], 1), share="none", progress=True)
    import lineax as lx
    import optimistix as optx

    def operator(theta, t):
        return lx.MatrixLinearOperator(jnp.exp(-t[:, None] / theta["tau"]))

    with pytest.raises(vp.InputError, match="progress= is for a model of columns"):
        vp.fit(operator, T, Y, init={"tau": 1.0}, progress=True)

    with pytest.raises(vp.InputError, match="BFGS tells nothing"):
        vp.fit(MODEL, T, Y, solver=optx.BFGS(1e-8, 1e-8), progress=True)
