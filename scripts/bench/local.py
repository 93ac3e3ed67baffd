"""Many Gaussians on a line: a solve by tiles, and the dense one while that takes seconds.

    python scripts/bench/local.py [PEAKS,SAMPLES ...]

Prints the time of a solve, of the second of two, and of one of its steps, and how far the two answers differ.
"""

import sys
import time

import jax
import numpy as np

import varpro as vp
from varpro._search import local_plan

jax.config.update("jax_enable_x64", True)
DENSE = 400


def case(peaks, samples, seed=0):
    rng = np.random.default_rng(seed)
    x = np.linspace(0.0, peaks, samples)
    centers = np.arange(peaks) + 0.5 + rng.uniform(-0.3, 0.3, peaks)
    widths, heights = rng.uniform(0.15, 0.35, peaks), rng.uniform(0.5, 2.0, peaks)
    y = 0.3 + 0.001 * x + 0.01 * rng.normal(size=samples)
    for c, w, h in zip(centers, widths, heights, strict=True):
        y += h * np.exp(-0.5 * ((x - c) / w) ** 2)
    starts = zip(
        centers + rng.uniform(-0.05, 0.05, peaks),
        widths * rng.uniform(0.9, 1.1, peaks),
        strict=True,
    )
    parts = [vp.Gaussian(f"g{i}", center=c, width=w) for i, (c, w) in enumerate(starts)]
    return sum(parts, vp.Polynomial("line", degree=1)), x, y


def timed(model, x, y):
    for _ in range(2):
        begin = time.perf_counter()
        found = jax.block_until_ready(vp.solve(model, y, args=x))
        took = time.perf_counter() - begin
    return found, took


def main(cases):
    for peaks, samples in cases:
        model, x, y = case(peaks, samples)
        found, took = timed(model, x, y)
        steps = int(found.stats["num_steps"])
        said = f"{peaks} peaks, {samples} samples: {took:.2f} s, {steps} steps of {1e3 * took / steps:.0f} ms"
        if peaks <= DENSE:
            components, local_plan._COMPONENTS = local_plan._COMPONENTS, 10**9
            dense, other = timed(model, x, y)
            local_plan._COMPONENTS = components
            off = max(abs(float(found.value[k] - dense.value[k])) for k in dense.value)
            said += (
                f"; dense {other:.2f} s, parameters within {off:.1e}, cost within "
                f"{abs(float(found.cost / dense.cost - 1)):.1e}"
            )
        print(said, flush=True)


if __name__ == "__main__":
    given = [tuple(map(int, word.split(","))) for word in sys.argv[1:]]
    main(given or [(100, 5000), (200, 5000), (400, 20000), (1000, 50000)])
