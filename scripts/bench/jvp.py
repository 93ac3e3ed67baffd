"""Pseudoinverse solves against `lineax.linear_solve`: value, one tangent, many tangents, gradient.

    python scripts/bench/jvp.py [--json FILE] [--repeats N] [--only TEXT]

Both sides are compiled and run alternately in this process, so that a busy machine slows both. A
ratio is the median time of lineax over the median of ours: above 1 we are faster. Tangents are
dense, one (A', b') pair each, pushed forward by `vmap` as `jacfwd` does it. OpenBLAS runs on one thread.
"""

import argparse
import json
import math
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from varpro.linalg import QR, SVD, Normal, pinv_solve

ROWS = [
    ("QR", QR(), lx.QR(), 2000, 50),
    ("QR", QR(), lx.QR(), 20000, 20),
    ("QR", QR(), lx.QR(), 1000, 3),
    ("QR", QR(), lx.QR(), 50, 2000),
    ("SVD", SVD(), lx.SVD(), 500, 100),
    ("SVD", SVD(), lx.SVD(), 100, 500),
    ("Normal(Cholesky)", Normal(), lx.Normal(lx.Cholesky()), 2000, 50),
    ("Normal(Cholesky)", Normal(), lx.Normal(lx.Cholesky()), 50, 2000),
]
KINDS = ["primal", "jvp", "10 tangents", "50 tangents", "grad"]
MANY = ("10 tangents", "50 tangents")


def task(solve, kind, a, b, seeds):
    """A compiled function of no arguments that does one `kind` of work."""

    def pushed(a, b, t_a, t_b):
        return jax.jvp(solve, (a, b), (t_a, t_b))

    if kind == "primal":
        run, args = solve, (a, b)
    elif kind == "jvp":
        run, args = pushed, (a, b, seeds[0][0], seeds[1][0])
    elif kind == "grad":
        run = jax.grad(lambda a, b: jnp.sum(solve(a, b) ** 2), argnums=(0, 1))
        args = (a, b)
    else:
        count = int(kind.split()[0])
        run = jax.vmap(pushed, in_axes=(None, None, 0, 0), out_axes=(None, 0))
        args = (a, b, seeds[0][:count], seeds[1][:count])
    compiled = jax.jit(run).lower(*args).compile()
    return lambda: jax.block_until_ready(compiled(*args))


def race(ours, theirs, repeats):
    """Times in milliseconds of both, taken in turn."""
    times = ([], [])
    spent = time.perf_counter()
    for i in range(repeats + 1):
        for side in (0, 1) if i % 2 else (1, 0):
            start = time.perf_counter()
            (ours, theirs)[side]()
            if i:
                times[side].append(1e3 * (time.perf_counter() - start))
        if i >= 7 and time.perf_counter() - spent > 10:
            break
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the measurements to this file")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--only", default="", help="run the rows whose name contains this text")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    results = []
    print(f"jax {jax.__version__}, lineax {lx.__version__}, float64, {jax.devices()[0].platform}")
    print(f"{'ratio lineax / ours':28}" + "".join(f"{k:>20}" for k in KINDS), flush=True)
    for name, mine, its, m, n in ROWS:
        label = f"{name} {m}x{n}"
        if args.only not in label:
            continue
        a, b = jnp.asarray(rng.normal(size=(m, n))), jnp.asarray(rng.normal(size=m))
        count = 50
        seeds = (
            jnp.asarray(rng.normal(size=(count, m, n))),
            jnp.asarray(rng.normal(size=(count, m))),
        )

        def ours(a, b, solver=mine):
            return pinv_solve(a, b, solver)

        def theirs(a, b, solver=its):
            return lx.linear_solve(lx.MatrixLinearOperator(a), b, solver, throw=False).value

        line = f"{label:28}"
        for kind in KINDS:
            pair = [task(f, kind, a, b, seeds) for f in (ours, theirs)]
            for mine_out, its_out in zip(*(jax.tree.leaves(f()) for f in pair), strict=True):
                np.testing.assert_allclose(mine_out, its_out, rtol=1e-6, atol=1e-9)
            t_ours, t_theirs = race(*pair, args.repeats)
            median = statistics.median(t_theirs) / statistics.median(t_ours)
            least = min(t_theirs) / min(t_ours)
            results.append(
                {
                    "solver": name,
                    "shape": [m, n],
                    "kind": kind,
                    "ratio": median,
                    "ratio_of_minima": least,
                    "ours_ms": statistics.median(t_ours),
                    "lineax_ms": statistics.median(t_theirs),
                    "ours_least_ms": min(t_ours),
                    "lineax_least_ms": min(t_theirs),
                }
            )
            line += f"{median:8.2f} ({statistics.median(t_ours):8.3f}ms)"
        print(line, flush=True)
    many = [r["ratio"] for r in results if r["kind"] in MANY]
    mean = math.exp(statistics.fmean(map(math.log, many)))
    print(f"geometric mean of the many-tangent rows: {mean:.2f}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"geometric_mean_many": mean, "rows": results}, file, indent=1)


if __name__ == "__main__":
    main()
