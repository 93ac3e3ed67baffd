"""Rules for coefficients in batches, against exact solves of scipy and one fit after the other."""

from typing import Any

import numpy as np
import pytest
import scipy.optimize

import varpro as vp
from varpro._status import CurveStatus

B = np.array([0, 10, 20, 35, 50, 80, 120, 200, 300, 400, 600, 800.0])
IVIM = vp.Exp("slow", rate=1e-3) + vp.Exp("fast", rate=2e-2)
BOX = {"slow.rate": (2e-4, 4e-3), "fast.rate": (5e-3, 0.2)}
# So many curves at once, here and where there are fewer: one program.
BLOCK = 128


def voxels(rng, count, noise=0.03):
    f, d, pseudo = (
        rng.uniform(0, 0.3, count),
        rng.uniform(5e-4, 2e-3, count),
        10 ** rng.uniform(-2, -1, count),
    )
    s = (1 - f[:, None]) * np.exp(-np.outer(d, B)) + f[:, None] * np.exp(-np.outer(pseudo, B))
    return s + noise * rng.standard_normal(s.shape)


def basis(batch, i, names=("slow.rate", "fast.rate")):
    return np.stack([np.exp(-batch[n].value[i] * B) for n in names], axis=1)


def same_as_one_by_one(batch, model, y, indices, options, own=None):
    """Curves agree in cost, and where they do also in values and errors. Searches end where a step promises
    1e-9 of chi-square: 3e-5 of a standard error or less."""
    for i in indices:
        mine = options if own is None else options | {"bounds": own(i)}
        starts = {name: float(batch[name].value[i]) for name in batch.names}
        one = vp.fit(model, B, y[i], init=starts, **mine)
        # A penalty is in what is least, and chi-square has a slope there.
        level = 5e-5 if "ridge" in options else 1e-7
        np.testing.assert_allclose(batch.chisq[i], one.chisq, rtol=level)
        np.testing.assert_allclose(batch.dof[i], one.dof, rtol=1e-4)
        for name in (*batch.names, *batch.columns):
            value, error = batch[name].value[i], one[name].stderr
            scale = (
                error
                if np.isfinite(error) and error > 0
                else 1e-3 * max(abs(one[name].value), 1e-3)
            )
            assert abs(value - one[name].value) < 1e-3 * scale, (i, name, value, one[name].value)
            np.testing.assert_allclose(
                batch[name].stderr[i], error, rtol=2e-3, err_msg=f"{i} {name}"
            )


def test_nonnegative_coefficients_are_those_of_scipy_in_every_voxel(rng):
    y = voxels(rng, 1000)
    batch = vp.fit_many(IVIM, B, y, bounds=BOX, nonnegative=True, block=BLOCK)
    free = vp.fit_many(IVIM, B, y, bounds=BOX)
    # Where the fast part is zero, the data tell nothing of its rate, unless that lies on a bound.
    gone = batch.coef[:, 1] == 0
    assert set(batch.counts) <= {"successful", "floor", "undetermined"}
    rate = batch["fast.rate"]
    inside = (rate.value > rate.lower) & (rate.value < rate.upper)
    assert (batch.status[gone & inside] == CurveStatus.UNDETERMINED).all()
    assert gone[inside].sum() > 20 and batch.success[~gone].all()
    assert np.isinf(rate.stderr[gone & inside]).all()
    assert (batch.coef >= 0).all()
    held = 0
    for i in range(1000):
        phi = basis(batch, i)
        c, norm = scipy.optimize.nnls(phi, y[i])
        np.testing.assert_allclose(batch.coef[i], c, atol=1e-9)
        np.testing.assert_allclose(batch.chisq[i], norm**2, rtol=1e-9)
        on = c == 0
        held += on.any()
        assert np.isnan(batch.coef_stderr[i][on]).all()
    assert held > 20  # the noise does ask for negative fractions
    assert (free.coef < 0).any()
    # Where nothing is on a bound, the rule changes nothing.
    inside = batch.success & free.success & (free.coef > 0).all(axis=1)
    same = np.isclose(batch.chisq, free.chisq, rtol=1e-7)[inside]
    assert same.mean() > 0.98
    # No voxel is the better for the rule, but where the free search ended in another minimum.
    assert np.mean(batch.chisq >= free.chisq * (1 - 1e-7)) > 0.98
    off = np.flatnonzero(batch.success & (batch.alpha[:, 1] < 0.19) & (batch.alpha[:, 1] > 0.006))
    same_as_one_by_one(batch, IVIM, y, off[:20], {"bounds": BOX, "nonnegative": True})


def test_bounds_relations_and_penalties_are_those_of_single_fits(rng):
    y = voxels(rng, 24)
    model = IVIM + vp.Constant("dark")
    top = rng.uniform(0.05, 0.2, 24)
    bounds = BOX | {"fast": (0.0, top), "dark": (0.0, 0.02)}
    batch = vp.fit_many(model, B, y, bounds=bounds)
    assert (batch["fast"].value <= top).all() and (batch["dark"].value <= 0.02).all()
    on = np.isclose(batch["fast"].value, top, rtol=1e-14)
    assert 0 < on.sum() < 24
    inside = (
        batch.success
        & ~(batch.alpha >= [0.0039, 0.19]).any(1)
        & ~(batch.alpha <= [2.1e-4, 5.1e-3]).any(1)
    )
    good = np.flatnonzero(inside)
    own = lambda i: BOX | {"fast": (0.0, top[i]), "dark": (0.0, 0.02)}  # noqa: E731
    same_as_one_by_one(batch, model, y, good[:6], {}, own)
    rules: Any
    # What is added to the data and to the rows of the problem; columns that are one; bounds on both.
    for rules in (
        {"relations": {"dark": {"slow": 0.01}}, "nonnegative": True},
        {"relations": {"dark": 0.01}, "ridge": {"fast": 0.05}},
        {"ridge": 0.01, "nonnegative": ["fast"]},
    ):
        batch = vp.fit_many(model, B, y, bounds=BOX, **rules)
        inside = batch.success & ~np.isnan(batch.alpha_stderr).any(axis=1)
        same_as_one_by_one(batch, model, y, np.flatnonzero(inside)[:4], {"bounds": BOX} | rules)


def test_counts_may_have_nonnegative_coefficients(rng):
    y = rng.poisson(200 * np.clip(voxels(rng, 40, 0.0), 0, None)).astype(float)
    batch = vp.fit_many(IVIM, B, y, bounds=BOX, nonnegative=True, noise="poisson")
    assert (batch.coef >= 0).all() and batch.success.mean() > 0.9
    on = (batch.coef == 0).any(axis=1)
    assert 0 < on.sum() < 40

    def cost(theta, y):
        mu = np.stack([np.exp(-theta[0] * B), np.exp(-theta[1] * B)], 1) @ theta[2:]
        return np.sum(mu - y * np.log(mu))

    # Nowhere near is the likelihood higher: scipy's search, from there, gains nothing.
    for i in np.flatnonzero(batch.success)[:8]:
        start = np.r_[batch.alpha[i], batch.coef[i]]
        box = [*BOX.values(), *[(1e-9, None)] * 2]
        better = scipy.optimize.minimize(
            cost,
            np.clip(start, *np.array([(a, b or np.inf) for a, b in box]).T),
            (y[i],),
            bounds=box,
        )
        assert cost(start + [0, 0, 1e-12, 1e-12], y[i]) <= better.fun + 1e-5


def test_more_coefficients_than_sets_can_be_tried_are_solved_exactly(rng):
    # Each of six is on its bound or off: 64 sets, and 32 are tried.
    rates = np.geomspace(1e-3, 0.1, 5)
    model = vp.Exp("slow", rate=5e-4)
    for k, rate in enumerate(rates):
        model = model + vp.Exp(f"e{k}", rate=vp.Param(rate, fixed=True))
    y = voxels(rng, 16)
    batch = vp.fit_many(model, B, y, bounds={"slow.rate": (2e-4, 8e-4)}, nonnegative=True)
    for i in range(16):
        phi = np.exp(-np.outer(B, np.r_[batch["slow.rate"].value[i], rates]))
        c, norm = scipy.optimize.nnls(phi, y[i])
        np.testing.assert_allclose(batch.chisq[i], norm**2, rtol=1e-9)
        np.testing.assert_allclose(batch.coef[i], c, atol=1e-6)


def test_columns_with_parameters_of_their_own_and_shared_ones_keep_the_rules(rng):
    y = voxels(rng, BLOCK)
    batch = vp.fit_many(IVIM, B, y, bounds=BOX, nonnegative=True)
    columns = vp.fit(IVIM, B, y.T, bounds=BOX, nonnegative=True, share="none")
    np.testing.assert_allclose(columns.chisq, batch.chisq, rtol=1e-10)
    some = y[:3]
    mixed = vp.fit_many(IVIM, B, some, bounds=BOX, nonnegative=True, share="fast.rate")
    sets = {f"v{i}": (B, one) for i, one in enumerate(some)}
    joint = vp.fit(IVIM, sets, bounds=BOX, nonnegative=True, share=["fast.rate"])
    assert (mixed.coef >= 0).all()
    np.testing.assert_allclose(mixed.chisq.sum(), joint.chisq, rtol=1e-6)


def test_rules_that_no_curve_can_have_are_refused(rng):
    y = voxels(rng, 4)
    rules: Any
    for rules, says in (
        ({"nonnegative": ["none"]}, "no column 'none'"),
        ({"ridge": "gcv"}, "is for vp.fit"),
        ({"relations": {"fast": "none"}}, "no column 'none'"),
        ({"bounds": {"fast": (0.0, np.ones(3))}}, "the batch has"),
        ({"bounds": {"fast": (1.0, 0.0)}}, "lower <= upper"),
        ({"bounds": {"fast": (0.0, 1.0), "nothing": (0, 1)}}, "nothing"),
    ):
        with pytest.raises(vp.InputError, match=says):
            vp.fit_many(IVIM, B, y, **rules)
    with pytest.raises(vp.InputError, match="complex numbers have no order"):
        vp.fit_many(IVIM, B, y + 0j, nonnegative=True)
