"""Solvers of optax and optimistix by name in a configuration."""

import inspect

import numpy as np
import optax
import optimistix as optx
import pytest

import varpro as vp
from varpro.app.config.fit import NAMES, Solver
from varpro.app.plan.fit import build_solver, fit_plan
from varpro.app.plan.make_plan import make_plan

T = np.linspace(0.0, 10.0, 60)
Y = 3 * np.exp(-T / 2) + 0.5 + 0.02 * np.random.default_rng(0).normal(size=T.size)
TEXT = """\
data: {{path: decay.csv, x: t, y: y}}
model: {{e: {{kind: {kind}, {start}}}, c: {{kind: constant}}}}
fit: {{solver: {{{solver}}}}}
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("decay.csv", np.c_[T, Y], delimiter=",", header="t,y", comments="")

    def make(solver, kind="exp", start="tau: 1.0"):
        text = TEXT.format(solver=solver, kind=kind, start=start)
        (tmp_path / "decay.yaml").write_text(text)
        return make_plan("decay.yaml")

    return make


def test_solvers_by_name_end_at_the_optimum_of_our_own(plan):
    ours = fit_plan(plan("kind: lm"))
    for solver in (
        "kind: optimistix, name: BFGS",
        "kind: optimistix, name: LevenbergMarquardt, rtol: 1e-9, atol: 1e-9",
        "kind: optax, name: adam, learning_rate: 0.05, steps: 3000",
    ):
        fit = fit_plan(plan(solver))
        assert fit.success, solver
        # They stop by their own tests, at changes of 1e-8.
        assert fit["e.tau"].value == pytest.approx(ours["e.tau"].value, rel=1e-4), solver
    few = fit_plan(plan("kind: optax, name: adam, learning_rate: 0.05, steps: 3"))
    assert not few.success and few.num_steps == 3


def test_every_name_is_one_of_its_package_and_can_be_built():
    for name in NAMES["optax"]:
        assert "learning_rate" in inspect.signature(getattr(optax, name)).parameters
        built = build_solver(Solver(kind="optax", name=name, learning_rate=0.1))
        assert isinstance(built, optx.OptaxMinimiser)
    for name in NAMES["optimistix"]:
        rate = 0.1 if name == "GradientDescent" else None
        built = build_solver(Solver(kind="optimistix", name=name, learning_rate=rate, rtol=1e-3))
        assert isinstance(built, getattr(optx, name))
        assert float(built.rtol) == 1e-3


@pytest.mark.parametrize(
    ("solver", "said"),
    [
        (
            "kind: optax, name: adm, learning_rate: 0.1",
            "has no solver 'adm' here. Did you mean 'adam'?",
        ),
        ("kind: optax, learning_rate: 0.1", "kind optax needs a name. Known: adabelief, "),
        ("kind: optax, name: adam", "adam needs a learning_rate, such as 0.01."),
        ("kind: optimistix, name: bfgs", "has no solver 'bfgs' here. Did you mean 'BFGS'?"),
        (
            "kind: optimistix, name: BFGS, learning_rate: 1",
            "BFGS finds the size of its steps by itself",
        ),
        ("kind: optimistix, name: BFGS, ftol: 1e-3", "ftol is for kind lm, not for optimistix"),
        ("kind: optax, name: sgd, learning_rate: 1, max_steps: 9", "max_steps is for kind lm"),
        ("name: adam", "name is for kind optax or optimistix, not for lm. Leave it out."),
        ("kind: optax, name: adam, learning_rate: -1", "learning_rate"),
        ("kind: scipy, name: trf", "kind"),
    ],
)
def test_what_a_package_does_not_have_is_refused_with_file_line_and_what_there_is(
    plan, solver, said
):
    with pytest.raises(vp.InputError) as error:
        plan(solver)
    assert said in str(error.value) and "decay.yaml:3 fit.solver" in str(error.value)


def test_bounds_that_a_solver_would_not_keep_are_named_before_it_starts(plan):
    for start, kind in (
        ("tau: {init: 1.0, lower: 0.1}", "exp"),
        ("center: 4, width: 1", "gaussian"),
    ):
        with pytest.raises(vp.InputError) as error:
            fit_plan(plan("kind: optimistix, name: BFGS", kind, start))
        name = "e.tau" if kind == "exp" else "e.width"
        assert f"BFGS knows no bounds, and there are some of '{name}'" in str(error.value)
        assert f"decay.yaml:2 model.{name}: " in str(error.value)
