"""Nonnegative least squares of many right-hand sides against scipy, one after the other.

    python scripts/bench/nnls.py [--repeats N]

Times are the least of the repeats, turns taken; `excess` is how much higher than scipy's our worst
sum of squares is, relative to it.
"""

import argparse
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
from scipy.optimize import nnls

from varpro.linalg import bounded_lstsq

jax.config.update("jax_enable_x64", True)


def cases():
    rng = np.random.default_rng(0)
    for m, n, k in ((1000, 4, 1000), (100, 20, 200), (100, 50, 20)):
        yield f"normal {m} x {n}, {k}", rng.normal(size=(m, n)), rng.normal(size=(m, k))
    x = np.linspace(0.0, 10.0, 300)[:, None]
    peaks = np.exp(-((x - np.linspace(0.0, 10.0, 40)) ** 2) / 0.1)
    some = np.maximum(rng.normal(size=(40, 100)), 0.0)
    yield "peaks 300 x 40, 100", peaks, peaks @ some + 0.05 * rng.normal(size=(300, 100))
    t = np.linspace(0.0, 10.0, 200)[:, None]
    two = np.exp(-t / np.array([0.5, 3.0])) @ rng.uniform(size=(2, 30))
    decays = np.exp(-t / np.geomspace(0.1, 30.0, 60))
    yield "lifetimes 200 x 60, 30", decays, two + 1e-3 * rng.normal(size=(200, 30))


def timed(function):
    begun = time.perf_counter()
    out = function()
    return time.perf_counter() - begun, out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    print(f"{'':28}{'varpro':>10}{'scipy':>10}{'excess':>10}")
    for name, a, b in cases():
        ours = jax.jit(lambda a, b: bounded_lstsq(a, b))
        c = np.asarray(ours(a, b))
        mine, theirs, peer = [], [], c
        for _ in range(args.repeats):
            mine.append(timed(lambda f=ours, a=a, b=b: f(a, b).block_until_ready())[0])
            once, peer = timed(
                lambda a=a, b=b: np.stack([nnls(a, y, maxiter=3000)[0] for y in b.T], axis=1)
            )
            theirs.append(once)
        high, low = (np.sum((a @ z - b) ** 2, axis=0) for z in (c, peer))
        excess = np.max(high / low) - 1
        print(f"{name:28}{min(mine) * 1e3:7.2f} ms{min(theirs) * 1e3:7.2f} ms{excess:10.1e}")


if __name__ == "__main__":
    main()
