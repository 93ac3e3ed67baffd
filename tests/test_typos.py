"""A mistyped name is met by the right one, before anything is computed."""

import numpy as np
import pytest

import varpro as vp
from varpro._single import program as _fit_program

X = np.linspace(0, 5, 40)
Y = np.exp(-X) + 0.1
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")

TYPOS = [
    ({"fix": "slow.tua"}, "Did you mean 'slow.tau'?"),
    ({"fix": ["fast.tau", "slw.*"]}, "Did you mean 'slow.*'?"),
    ({"fix": ["*.tua"]}, "Did you mean '*.tau'?"),
    ({"fix": ["q?.*"]}, "Known: fast.tau, slow.tau."),
    ({"tie": {"slow.tau": "fst.tau"}}, "Did you mean 'fast.tau'?"),
    ({"tie": {"slw.tau": "fast.tau"}}, "Did you mean 'slow.tau'?"),
    ({"order": ("fast.tau", "slow.ta")}, "Did you mean 'slow.tau'?"),
    ({"order": [("fast.tua", "slow.tau")]}, "Did you mean 'fast.tau'?"),
    ({"init": {"slow.tua": 3.0}}, "Did you mean 'slow.tau'?"),
    ({"init": {"slwo.*": 3.0}}, "Did you mean 'slow.*'?"),
    ({"bounds": {"fats.tau": (0.0, 1.0)}}, "Did you mean 'fast.tau'?"),
    ({"bounds": {"*.rate": (0.0, 1.0)}}, "Known: *.tau."),
]


@pytest.mark.parametrize(("given", "hint"), TYPOS)
def test_fit_suggests_the_name_that_was_meant(given, hint, monkeypatch):
    monkeypatch.setattr(_fit_program, "_program", None)
    with pytest.raises(vp.InputError) as caught:
        vp.fit(MODEL, X, Y, **given)
    assert hint in str(caught.value) and next(iter(given)) in str(caught.value)


def test_a_result_suggests_the_name_that_was_meant():
    fit = vp.fit(MODEL, X, Y)
    for wrong, meant in (("slow.tua", "slow.tau"), ("slwo", "slow"), ("Fast.tau", "fast.tau")):
        with pytest.raises(vp.InputError, match=f"No parameter '{wrong}'.*'{meant}'"):
            fit[wrong]
