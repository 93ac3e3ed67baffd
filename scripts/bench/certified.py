"""Digits of NIST's problems, those of the tests and the others with one x, and what becomes of random starts.

    python scripts/bench/certified.py [--jacobian kaufman full] [--linear default qr] [--random 20]

Per run: LRE (agreeing digits, worst parameter) of values and of standard deviations, trial points,
the test that ended it, and whether success was claimed. A false claim is a success with fewer than
four digits, other than at another minimum: a stationary point of higher cost with finite errors.
"""

import argparse
import collections
import pathlib
import sys
import zlib

import jax
import numpy as np

import varpro as vp

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
import oracles  # noqa: E402
from published_models import MORE, NIST, alignment, lre, published, run  # noqa: E402

LINEAR = {
    "default": None,
    "qr": vp.linalg.QR(),
    "pivoted": vp.linalg.PivotedQR(),
    "svd": vp.linalg.SVD(),
}
# As arrays, tolerances are no part of the compiled program.
SOLVERS = {
    "default": jax.tree.map(np.float64, vp.LevenbergMarquardt()),
    "tight": jax.tree.map(np.float64, vp.LevenbergMarquardt(ftol=0.0, xtol=0.0, gtol=0.0)),
}
STATIONARY = 1e-6
EVERY = NIST | MORE


def verdict(form, problem, fit) -> tuple[str, float, float]:
    """right | failed | elsewhere (another minimum) | runaway | false, and both LRE."""
    values, covariance = published(form, fit)
    digits = lre(values, problem.certified)
    with np.errstate(invalid="ignore"):
        deviations = np.sqrt(np.diag(covariance))
    kind = "right"
    if not fit.success:
        kind = "failed" if digits < 4 else "right, but success not claimed"
    elif digits < 4:
        kind = "false"
        if 2 * fit.cost > problem.rss and alignment(form, problem, values) < STATIONARY:
            kind = "elsewhere" if np.all(np.isfinite(deviations)) else "runaway"
    return kind, digits, lre(deviations, problem.certified_sd)


def certified(names, **options) -> None:
    """The table of both starts at both tolerances."""
    mean = collections.defaultdict(list)
    for name in names:
        form, problem = EVERY[name], oracles.load(name)
        for tolerance, solver in SOLVERS.items():
            for number, start in enumerate(problem.starts, 1):
                fit = run(form, problem, start, solver=solver, **options)
                kind, digits, deviations = verdict(form, problem, fit)
                mean[tolerance].append((digits, deviations, fit.num_steps, kind == "false"))
                print(
                    f"{name:9} start {number} {tolerance:8} values {digits:5.2f}  "
                    f"deviations {deviations:5.2f}  steps {fit.num_steps:3}  {fit.stop:6} {kind}",
                    flush=True,
                )
    for tolerance, rows in mean.items():
        digits, deviations, steps, false = np.array(rows).T
        print(
            f"  {tolerance}: values mean {digits.mean():.2f} least {digits.min():.2f}; deviations "
            f"mean {deviations.mean():.2f}; steps mean {steps.mean():.1f} median "
            f"{np.median(steps):.0f}; false claims {false.sum():.0f} of {len(rows)}"
        )


def random_starts(names, count: int, **options) -> None:
    """Starts at the certified nonlinear values times 10^U(-0.5, 0.5), the same in every call."""
    total, all_steps = collections.Counter(), []
    for name in names:
        form, problem = EVERY[name], oracles.load(name)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        truth = form.start(problem.certified)
        found, steps = collections.Counter(), []
        for _ in range(count):
            init = {k: float(v * 10 ** rng.uniform(-0.5, 0.5)) for k, v in truth.items()}
            try:
                fit = vp.fit(
                    form.model,
                    problem.x,
                    problem.y,
                    init=init,
                    solver=SOLVERS["default"],
                    **options,
                )
            except vp.InputError:  # no sample sees a component from there
                found["refused"] += 1
                continue
            kind, digits, _ = verdict(form, problem, fit)
            found[kind] += 1
            if kind == "right":
                steps.append(fit.num_steps)
            if kind == "false":
                print(f"  FALSE {name} {digits:.2f} {fit.stop} from {init}")
        total += found
        all_steps += steps
        print(f"{name:9} random starts: {dict(found)}", flush=True)
    right = total["right"] + total["right, but success not claimed"]
    print(
        f"  random starts: {right} of {sum(total.values())} right; {dict(total)}; "
        f"steps when right: mean {np.mean(all_steps):.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--jacobian", nargs="+", default=["auto"], choices=["auto", "kaufman", "full"]
    )
    parser.add_argument("--linear", nargs="+", default=["default"], choices=list(LINEAR))
    parser.add_argument("--random", type=int, default=20, help="random starts per problem")
    parser.add_argument("--problem", nargs="+", default=list(EVERY), choices=list(EVERY))
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for jacobian in given.jacobian:
        for linear in given.linear:
            print(f"\njacobian {jacobian}, linear solver {linear}")
            options = {"jacobian": jacobian, "linear_solver": LINEAR[linear]}
            certified(given.problem, **options)
            if given.random:
                random_starts(given.problem, given.random, **options)


if __name__ == "__main__":
    main()
