"""One fit against peers: a double exponential with a constant, and fifty peaks on a baseline.

    python scripts/bench/single.py [--json FILE] [--repeats N] [--only TEXT]

Everybody gets the same data, start and tolerance (1e-8), is warm, and takes turns with the others in
this process. Times are medians; a ratio is the time over that of the scipy variable projection, so
below 1 is faster. `found` says whether the answer is the optimum (cost within 1e-6 of the least).

- `varpro.solve`: the compiled solve. `varpro.fit`: with names, checks and standard errors.
- `scipy varpro`: hand-written variable projection, numpy and `least_squares` with Kaufman's Jacobian.
- `scipy full`: `least_squares` with an analytic Jacobian on all parameters, linear ones too.
- `optimistix full`: its Levenberg-Marquardt, compiled, on all parameters.
"""

import argparse
import functools
import json
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import scipy.linalg
from scipy.optimize import least_squares

import varpro as vp

TOLERANCE = 1e-8


class Case:
    """Columns and their partial derivatives, in numpy and in JAX, with data and a start.

    `columns(xp, alpha, x)` are (m, n); `partials(alpha, x)` (m, p), one for each parameter, whose
    column is `owner`.
    """

    def __init__(self, name, columns, partials, owner, truth, coef, start, x, noise, model):
        self.name, self.columns, self.partials, self.owner = name, columns, partials, owner
        self.start, self.x, self.model = np.asarray(start, float), x, model
        rng = np.random.default_rng(0)
        self.y = columns(np, np.asarray(truth), x) @ coef + noise * rng.normal(size=x.size)

    def phi(self, alpha):
        return self.columns(np, alpha, self.x)

    def cost(self, alpha):
        resid, _ = self.projected(alpha)
        return 0.5 * resid @ resid

    def projected(self, alpha):
        """Residual and coefficients by a QR of the columns."""
        q, r = np.linalg.qr(self.phi(alpha))
        qty = q.T @ self.y
        return self.y - q @ qty, scipy.linalg.solve_triangular(r, qty, check_finite=False)


def decays(m):
    def columns(xp, alpha, x):
        return xp.stack([xp.exp(-x / alpha[0]), xp.exp(-x / alpha[1]), xp.ones_like(x)], axis=1)

    def partials(alpha, x):
        return np.stack([np.exp(-x / a) * x / a**2 for a in alpha], axis=1)

    x = np.linspace(0.0, 20.0, m)
    model = vp.Exp("fast", tau=1.0) + vp.Exp("slow", tau=10.0) + vp.Constant("bg")
    truth, coef, start = [2.4, 6.0], [2.2, 6.8, 1.6], [1.0, 10.0]
    return Case(f"decays m={m}", columns, partials, [0, 1], truth, coef, start, x, 0.01, model)


def peaks(count=50, m=5000):
    centers = np.linspace(2.0, 98.0, count)
    rng = np.random.default_rng(1)
    widths = rng.uniform(0.4, 0.8, count)
    x = np.linspace(0.0, 100.0, m)

    def columns(xp, alpha, x):
        z = (x[:, None] - alpha[:count]) / alpha[count:]
        u = x / 50.0 - 1.0
        return xp.concatenate([xp.exp(-0.5 * z * z), xp.stack([u**i for i in range(4)], 1)], 1)

    def partials(alpha, x):
        z = (x[:, None] - alpha[:count]) / alpha[count:]
        g = np.exp(-0.5 * z * z)
        return np.concatenate([g * z / alpha[count:], g * z * z / alpha[count:]], axis=1)

    truth = np.concatenate([centers + rng.normal(size=count) * 0.1, widths])
    coef = np.concatenate([rng.uniform(1, 5, count), [2.0, 0.5, -0.3, 0.2]])
    start = np.concatenate([centers, np.full(count, 0.6)])
    model = vp.Polynomial("base", degree=3)
    for i in range(count):
        model = model + vp.Gaussian(f"p{i}", center=centers[i], width=0.6)
    owner = list(range(count)) * 2
    return Case("50 peaks m=5000", columns, partials, owner, truth, coef, start, x, 0.02, model)


def scipy_varpro(case):
    """What a careful user writes: one QR per evaluation, kept for the Jacobian."""
    known = {}

    def residual(alpha):
        q, r = np.linalg.qr(case.phi(alpha))
        qty = q.T @ case.y
        known.update(q=q, c=scipy.linalg.solve_triangular(r, qty, check_finite=False), at=alpha)
        return case.y - q @ qty

    def jacobian(alpha):
        if not np.array_equal(known["at"], alpha):
            residual(alpha)
        moved = case.partials(alpha, case.x) * known["c"][case.owner]
        return known["q"] @ (known["q"].T @ moved) - moved

    return least_squares(residual, case.start, jacobian, **_scipy_options()).x


def scipy_full(case):
    p = case.start.size

    def residual(both):
        return case.y - case.phi(both[:p]) @ both[p:]

    def jacobian(both):
        moved = case.partials(both[:p], case.x) * both[p:][case.owner]
        return -np.concatenate([moved, case.phi(both[:p])], axis=1)

    start = np.concatenate([case.start, case.projected(case.start)[1]])
    return least_squares(residual, start, jacobian, **_scipy_options()).x[:p]


def _scipy_options():
    return {"x_scale": "jac", "ftol": TOLERANCE, "xtol": TOLERANCE, "gtol": TOLERANCE}


def optimistix_full(case):
    p = case.start.size
    solver = optx.LevenbergMarquardt(rtol=TOLERANCE, atol=TOLERANCE)

    @jax.jit
    def run(start, x, y):
        def residual(both, _):
            return y - case.columns(jnp, both[:p], x) @ both[p:]

        return optx.least_squares(residual, solver, start, throw=False, max_steps=1000).value[:p]

    start = np.concatenate([case.start, case.projected(case.start)[1]])
    return functools.partial(run, *map(jnp.asarray, (start, case.x, case.y)))


def ours(case):
    """The compiled solve of the columns as a plain function."""
    solver = vp.LevenbergMarquardt(ftol=TOLERANCE, xtol=TOLERANCE, gtol=TOLERANCE)

    @jax.jit
    def run(start, x, y):
        solution = vp.solve(lambda a, x: case.columns(jnp, a, x), y, start, x, solver=solver)
        return solution.value

    return functools.partial(run, *map(jnp.asarray, (case.start, case.x, case.y)))


def ours_with_statistics(case):
    solver = vp.LevenbergMarquardt(ftol=TOLERANCE, xtol=TOLERANCE, gtol=TOLERANCE)

    def run():
        fit = vp.fit(case.model, case.x, case.y, solver=solver)
        if case.name.startswith("decays"):
            return fit.alpha
        values = dict(zip(fit.names, fit.alpha, strict=True))
        count = case.start.size // 2
        return np.array(
            [values[f"p{i}.{key}"] for key in ("center", "width") for i in range(count)]
        )

    return run


def contenders(case):
    yield "scipy varpro", lambda: scipy_varpro(case)
    yield "varpro.solve", ours(case)
    yield "varpro.fit", ours_with_statistics(case)
    if case.x.size < 1_000_000:
        yield "scipy full", lambda: scipy_full(case)
        yield "optimistix full", optimistix_full(case)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the measurements to this file")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--only", default="", help="run the cases whose name contains this text")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}, float64, tolerance {TOLERANCE}")
    results = []
    for make in [*(functools.partial(decays, m) for m in (100, 1000, 10_000, 1_000_000)), peaks]:
        case = make()
        if args.only not in case.name:
            continue
        runs = dict(contenders(case))
        costs = {name: case.cost(np.asarray(run())) for name, run in runs.items()}
        times = {name: [] for name in runs}
        begun = time.perf_counter()
        for i in range(args.repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                jax.block_until_ready(run())
                times[name].append(1e3 * (time.perf_counter() - start))
            if i >= 4 and time.perf_counter() - begun > 30:
                break
        base = statistics.median(times["scipy varpro"])
        least = min(costs.values())
        print(f"\n{case.name:18}{'median':>12}{'least':>12}{'ratio':>8}  found")
        for name, taken in times.items():
            median = statistics.median(taken)
            found = bool(costs[name] <= least * (1 + 1e-6))
            print(
                f"  {name:16}{median:10.3f}ms{min(taken):10.3f}ms{median / base:8.3f}  "
                f"{'yes' if found else 'NO'}",
                flush=True,
            )
            results.append(
                {
                    "case": case.name,
                    "who": name,
                    "median_ms": median,
                    "least_ms": min(taken),
                    "ratio": median / base,
                    "found": found,
                }
            )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
