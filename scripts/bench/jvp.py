"""Time of pinv_solve and its derivatives against lineax.linear_solve, in one run.

    python scripts/bench/jvp.py [--rows QR] [--seconds 2]

A figure is the time of lineax divided by ours: above 1 ours is faster. The two alternate, and the
median is taken over the same number of calls each, because a busy machine drifts.
"""

import argparse
import math
import time

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from varpro.linalg import QR, SVD, Normal, pinv_solve

SOLVERS = {
    "QR": (QR(), lx.QR()),
    "SVD": (SVD(), lx.SVD()),
    "Normal": (Normal(), lx.Normal(lx.Cholesky())),
}
ROWS = [
    *(("QR", *shape) for shape in ((2000, 50), (20000, 20), (1000, 3), (50, 2000))),
    *(("SVD", *shape) for shape in ((500, 100), (100, 500))),
    *(("Normal", *shape) for shape in ((2000, 50), (50, 2000))),
]
MANY = ("10 tangents", "50 tangents")


def cases(solve, a, b, tangents):
    """Name to a compiled call without arguments."""

    def jvp(a, b, t_a, t_b):
        return jax.jvp(solve, (a, b), (t_a, t_b))[1]

    many = jax.jit(jax.vmap(jvp, in_axes=(None, None, 0, 0)))
    one, primal = jax.jit(jvp), jax.jit(solve)
    grad = jax.jit(jax.grad(lambda a, b: jnp.sum(solve(a, b) ** 2), argnums=(0, 1)))
    t_a, t_b = tangents
    return {
        "primal": lambda: primal(a, b),
        "jvp": lambda: one(a, b, t_a[0], t_b[0]),
        "10 tangents": lambda: many(a, b, t_a[:10], t_b[:10]),
        "50 tangents": lambda: many(a, b, t_a, t_b),
        "grad": lambda: grad(a, b),
    }


def timed(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def compared(ours, theirs, seconds: float) -> tuple[float, float]:
    """Median seconds of ours and of theirs, called in turn."""
    timed(ours), timed(theirs)
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 5:
        samples.append((timed(ours), timed(theirs)))
    return tuple(np.median(samples, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    names = ["primal", "jvp", *MANY, "grad"]
    print("| row | " + " | ".join(names) + " | ours, ms |")
    print("|---|" + "---|" * (len(names) + 1))
    logs = []
    for solver, m, n in ROWS:
        title = f"{solver} {m} x {n}"
        if options.rows not in title:
            continue
        ours, theirs = SOLVERS[solver]
        rng = np.random.default_rng(0)
        a, b = jnp.asarray(rng.normal(size=(m, n))), jnp.asarray(rng.normal(size=m))
        t_a = jnp.asarray(rng.normal(size=(50, m, n)))
        tangents = (t_a, jnp.asarray(rng.normal(size=(50, m))))
        mine = cases(lambda a, b, s=ours: pinv_solve(a, b, s), a, b, tangents)
        lineax = cases(
            lambda a, b, s=theirs: lx.linear_solve(lx.MatrixLinearOperator(a), b, s).value,
            *(a, b, tangents),
        )
        for name in names:
            x, y = np.asarray(mine[name]()[0]), np.asarray(lineax[name]()[0])
            assert np.allclose(x, y, rtol=1e-6, atol=1e-9), f"{title}, {name}: answers differ"
        pairs = [compared(mine[name], lineax[name], options.seconds) for name in names]
        ratios = [y / x for x, y in pairs]
        logs += [math.log(r) for name, r in zip(names, ratios, strict=True) if name in MANY]
        times = ", ".join(f"{1e3 * x:.2g}" for x, _ in pairs)
        cells = " | ".join(f"{r:.2f}" for r in ratios)
        print(f"| {title} | {cells} | {times} |", flush=True)
    print(f"\nGeometric mean of the many-tangent figures: {math.exp(sum(logs) / len(logs)):.2f}")


if __name__ == "__main__":
    main()
