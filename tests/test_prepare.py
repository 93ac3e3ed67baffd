"""A prepared fit is `fit` without what y does not change, and `fit` remembers as much."""

import jax.numpy as jnp
import numpy as np
import pytest
from agreement import assert_same_optimum

import varpro as vp
from varpro._problem.frozen import Recalled, Unlike, frozen, recall
from varpro._single import ready

T = np.linspace(0.0, 5.0, 30)
Y = 3 * np.exp(-T / 1.2) + 0.5 + 0.01 * np.cos(37 * T)
MODEL = vp.Exp("a", tau=1.0) + vp.Constant("bg")


@pytest.fixture
def made(monkeypatch):
    """The fits that were made ready since the test began."""
    seen = []

    def counted(*args):
        seen.append(args)
        return make(*args)

    make = ready._made
    monkeypatch.setattr(ready, "_made", counted)
    monkeypatch.setattr(ready, "_KEPT", Recalled(16))
    return seen


def test_a_prepared_fit_is_the_fit(made):
    options = {"bounds": {"a.tau": (0.1, 5.0)}, "absolute_sigma": True}
    prepared = vp.prepare(MODEL, T, optimise=False, **options)
    for y in (Y, 2 * Y):
        assert prepared.fit(y, sigma=0.1) == vp.fit(MODEL, T, y, sigma=0.1, **options)
    assert len(made) == 1


def test_x_may_be_a_list_and_is_taken_as_it_was():
    x = T.tolist()
    prepared = vp.prepare(MODEL, x, optimise=False)
    x[0] = 99.0
    assert prepared.fit(Y) == vp.fit(MODEL, T, Y)


def test_an_optimised_fit_finds_the_same():
    assert_same_optimum(vp.prepare(MODEL, T).fit(Y), vp.fit(MODEL, T, Y))


def test_other_data_of_one_shape_are_not_prepared_again(made):
    first = vp.fit(MODEL, T, Y)
    again = vp.fit(MODEL, T, 2 * Y)
    assert len(made) == 1
    np.testing.assert_allclose(again["bg"].value, 2 * first["bg"].value, rtol=1e-6)
    masked = vp.fit(MODEL, T, Y, mask=T > 1)
    assert len(made) == 1 and masked.num_data == np.sum(T > 1)


def test_other_x_options_and_models_are_prepared_anew(made):
    fits = [
        vp.fit(MODEL, T, Y),
        vp.fit(MODEL, 2 * T, Y),
        vp.fit(MODEL, T, Y, init={"a.tau": 2.0}),
        vp.fit(vp.Exp("b", tau=1.0) + vp.Constant("bg"), T, Y),
    ]
    assert len(made) == 4
    np.testing.assert_allclose(fits[1].alpha, 2 * fits[0].alpha, rtol=1e-6)
    assert fits[2]["a.tau"].init == 2.0 and fits[3].names == ("b.tau",)


def test_what_a_caller_changes_after_a_fit_is_not_taken_for_what_he_gave(made):
    x, bounds = T.copy(), {"a.tau": (0.1, 5.0)}
    vp.fit(MODEL, x, Y, bounds=bounds)
    bounds["a.tau"] = (0.1, 1.1)
    assert vp.fit(MODEL, x, Y, bounds=bounds)["a.tau"].value == 1.1
    bounds["a.tau"] = (0.1, 5.0)
    free = vp.fit(MODEL, x, Y, bounds=bounds)["a.tau"].value
    assert 1.1 < free < 1.5
    x *= 2
    np.testing.assert_allclose(vp.fit(MODEL, x, Y)["a.tau"].value, 2 * free, rtol=1e-6)


def test_starts_in_the_data_are_sought_every_time():
    model = vp.Exp("a") + vp.Constant("bg")
    slow = 3 * np.exp(-T / 4.0) + 0.5
    starts = [vp.fit(model, T, y)["a.tau"].init for y in (Y, slow)]
    assert starts[1] > 1.5 * starts[0]


def test_too_few_data_are_refused_though_more_were_fitted_before():
    vp.fit(MODEL, T, Y)
    with pytest.raises(vp.InputError, match="cannot determine"):
        vp.fit(MODEL, T, Y, mask=T < 0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vp.prepare(MODEL, T, bunds={}), "no option 'bunds'.*bounds"),
        (lambda: vp.prepare(MODEL, 3.0), "arrays of one length"),
        (lambda: vp.prepare(MODEL, {"run": (T, Y[:9])}), "arrays of one length"),
        (lambda: vp.prepare("model", T), "model must be a basis"),
        (lambda: vp.prepare(MODEL, T, starts=0), "starts must be at least 1"),
        (lambda: vp.prepare(MODEL, T).fit(Y[:9]), "x has 30 points but y has 9"),
    ],
)
def test_what_cannot_be_right_is_refused(call, message):
    with pytest.raises(vp.InputError, match=message):
        call()


def test_frozen_values_tell_what_differs():
    equal = [({"a": (0.0, 1.0)}, {"a": (0.0, 1.0)}), (np.arange(3), np.arange(3)), ([1], [1])]
    for one, other in equal:
        assert frozen(one) == frozen(other) and hash(frozen(one)) == hash(frozen(other))
    values = [None, True, 1, 1.0, "1", (1,), [1], {"a": 1}, np.ones(1), np.ones(1, int)]
    values += [vp.Param(1.0), vp.Param(1.0, lower=0.0), vp.LevenbergMarquardt(), {"b": 1}]
    assert len({frozen(value) for value in values}) == len(values)
    for value in (jnp.ones(1), lambda x: x, object(), np.ones(10**6)):
        with pytest.raises(Unlike):
            frozen(value)


def test_of_recalled_calls_the_oldest_goes():
    calls, made = Recalled(2), []

    def function(value):
        made.append(value)
        return [value]

    first = recall(calls, function, 1)
    assert recall(calls, function, 1) is first
    for value in (2, 3, 1):
        recall(calls, function, value)
    assert made == [1, 2, 3, 1]
