"""What one form of a problem costs over another form of it, warm, in turns in one process.

    python scripts/bench/pairs.py [--repeats N] [--json FILE]

- `a function of 50 peaks`: a basis of one's own, whose columns depend on two parameters each, over the
  same peaks by name (m = 5000).
- `a scheme of two states`: `vp.Kinetics` over the sum of two `vp.Exp` (m = 1000).
- `global, k=1000`: three lifetimes after a Gaussian response, 1000 x 1000 values, with a weight of its own for
  each value, and with nonnegative coefficients, over neither.
- `pixels after a measured response`: curves a second of `vp.fit_many`, 256 bins, one decay and two, both noises.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax.numpy as jnp
import numpy as np
from globalfit import T, data, ours_model

import varpro as vp

PIXELS, BINS = 4096, 256


def peaks(count=50, m=5000):
    rng = np.random.default_rng(0)
    x = np.linspace(0.0, count, m)
    centers, widths = np.arange(count) + 0.5, 0.2 + 0.05 * rng.random(count)
    heights = 1.0 + np.arange(count) % 3
    y = np.exp(-0.5 * ((x[:, None] - centers) / widths) ** 2) @ heights
    y += 0.01 * rng.normal(size=m)
    start = centers + 0.03
    named = sum(
        (vp.Gaussian(f"p{i}", center=start[i], width=0.25) for i in range(1, count)),
        vp.Gaussian("p0", center=start[0], width=0.25),
    )

    def own(p, x):
        return {f"p{i}": jnp.exp(-0.5 * ((x - p[f"c{i}"]) / p[f"w{i}"]) ** 2) for i in range(count)}

    init = {f"c{i}": start[i] for i in range(count)} | {f"w{i}": 0.25 for i in range(count)}
    return {
        "by name": lambda: vp.fit(named, x, y),
        "a function": lambda: vp.fit(own, x, y, init=init),
    }


def scheme():
    t = np.linspace(0.0, 20.0, 1000)
    y = np.exp(-t / 1.2) - 0.3 * np.exp(-t / 5.0)
    y += 0.01 * np.random.default_rng(0).normal(size=t.size)
    exps = vp.Exp("a", rate=1.0) + vp.Exp("b", rate=0.2)
    states = vp.Kinetics("k", {"A->B": 1.0, "B->": 0.2})
    return {"sum of Exp": lambda: vp.fit(exps, t, y), "Kinetics": lambda: vp.fit(states, t, y)}


def many_columns():
    y = data(1000)
    model = ours_model()
    sigma = np.random.default_rng(1).uniform(0.008, 0.012, y.shape)
    names = [f"s{i}" for i in range(3)]
    return {
        "free": lambda: vp.fit(model, T, y),
        "own weights": lambda: vp.fit(model, T, y, sigma=sigma),
        "nonnegative": lambda: vp.fit(model, T, y, nonnegative=names),
    }


def after_response(decays, noise):
    rng = np.random.default_rng(2)
    t = (np.arange(BINS) + 0.5) * 12.5 / BINS
    response = np.exp(-0.5 * ((t - 1.0) / 0.15) ** 2)
    fine = response / response.sum()
    mean = np.zeros((PIXELS, BINS))
    for i in range(decays):
        tau = rng.uniform(*((2.5, 3.5) if i == 0 else (0.4, 0.6)), (PIXELS, 1))
        curve = np.exp(-t / tau)
        seen = np.apply_along_axis(lambda c: np.convolve(c, fine)[:BINS], 1, curve)
        mean += rng.uniform(0.3, 0.7, (PIXELS, 1)) * seen / seen.sum(1, keepdims=True)
    y = rng.poisson(mean * rng.uniform(500, 2000, (PIXELS, 1)) / mean.sum(1, keepdims=True))
    irf = vp.MeasuredIRF("irf", t, response)
    starts = {"slow": 3.0, "fast": 0.5}
    model = sum(
        (vp.Exp(n, tau=s, irf=irf) for n, s in list(starts.items())[1:decays]),
        vp.Exp("slow", tau=3.0, irf=irf),
    )
    return lambda: vp.fit_many(model, t, y.astype(float), noise=noise)


def in_turns(calls, repeats):
    spent = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            spent[name].append(time.perf_counter() - begun)
    return {name: statistics.median(s) for name, s in spent.items()}


def main():
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="write the measurements to this file")
    args = parser.parse_args()
    rows = []
    cases = {
        "50 peaks, m=5000": peaks(),
        "two states, m=1000": scheme(),
        "global, 1000 x 1000": many_columns(),
    }
    for case, calls in cases.items():
        found = in_turns(calls, args.repeats)
        base = next(iter(found.values()))
        for name, s in found.items():
            print(f"{case:24}{name:16}{1e3 * s:10.2f} ms{s / base:8.2f}", flush=True)
            rows.append({"case": case, "who": name, "ms": 1e3 * s, "ratio": s / base})
    for decays in (1, 2):
        calls = {noise: after_response(decays, noise) for noise in ("normal", "poisson")}
        for noise, s in in_turns(calls, max(1, args.repeats // 2)).items():
            print(
                f"after a response, {decays} decays {noise:16}{PIXELS / s:10.0f} curves/s",
                flush=True,
            )
            rows.append({"case": f"response, {decays}", "who": noise, "per_second": PIXELS / s})
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
