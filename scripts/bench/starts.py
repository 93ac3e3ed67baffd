"""Starts that nobody gives: how often they lead to the optimum, and what they cost.

    python scripts/bench/starts.py [--cases N] [--only TEXT]

Each row is a kind of random problem. `found`: the fit without any start ends at the cost of the fit
that starts at the truth (within 1e-6, or lower). `naive`: the same for starts that a person without
a look at the data gives: lifetimes spread by logarithm over x, peaks and frequencies spread evenly. Times
are medians.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import varpro as vp


def decays(count, noise, m=400):
    def make(rng):
        x = np.linspace(0.0, 10.0, m)
        while True:
            tau = np.sort(np.exp(rng.uniform(np.log(0.1), np.log(8.0), count)))
            if np.all(tau[1:] / tau[:-1] > 2.0):
                break
        names = [f"e{i}" for i in range(count)]
        naive = np.geomspace(0.3, 5.0, count) if count > 1 else np.array([1.0])

        def model(values=None):
            parts = [
                vp.Exp(n) if values is None else vp.Exp(n, tau=v)
                for n, v in zip(names, values if values is not None else tau, strict=True)
            ]
            return sum(parts, vp.Constant("bg"))

        y = np.exp(-x[:, None] / tau) @ rng.uniform(0.5, 2.0, count) + 0.3
        return model, tau, naive, x, y + noise * y.max() * rng.normal(size=m)

    return make


def peaks(kind, count, noise, m=600):
    def make(rng):
        x = np.linspace(0.0, 100.0, m)
        width = rng.uniform(1.0, 3.0, count)
        gap = 90.0 / count
        center = 5.0 + gap * (np.arange(count) + rng.uniform(0.15, 0.85, count))
        names = [f"p{i}" for i in range(count)]
        even = 5.0 + gap * (np.arange(count) + 0.5)
        truth, naive = np.stack([center, width], 1), np.stack([even, np.full(count, 2.0)], 1)

        def model(values=None):
            parts = [
                kind(n) if values is None else kind(n, center=v[0], width=v[1])
                for n, v in zip(names, values if values is not None else truth, strict=True)
            ]
            return sum(parts, vp.Polynomial("base", degree=1))

        z = (x[:, None] - center) / width
        shape = np.exp(-0.5 * z**2) if kind is vp.Gaussian else 1 / (1 + z**2)
        y = shape @ rng.uniform(0.5, 2.0, count) + 0.2 + 0.003 * x
        return model, truth, naive, x, y + noise * y.max() * rng.normal(size=m)

    return make


def waves(kind, count, noise, m=256):
    def make(rng):
        x = 4e-3 * np.arange(m)
        real = kind is vp.Oscillation
        low, gap = (5.0, 110.0 / count) if real else (-110.0, 220.0 / count)
        freq = low + gap * (np.arange(count) + rng.uniform(0.1, 0.9, count))
        truth = np.stack([freq, rng.uniform(5.0, 30.0, count)], 1)
        even = low + gap * (np.arange(count) + 0.5)
        naive = np.stack([even, np.full(count, 15.0)], 1)

        def model(values=None):
            free = [(vp.Param(), vp.Param())] * count
            some = free if values is None else values
            parts = [kind(f"w{i}", freq=v[0], rate=v[1]) for i, v in enumerate(some)]
            return sum(parts[1:], parts[0])

        size = rng.uniform(0.5, 2.0, count) * np.exp(2j * np.pi * rng.uniform(size=count))
        y = np.exp(np.outer(x, 2j * np.pi * freq - truth[:, 1])) @ size
        y = y + noise * np.abs(y).max() * (rng.normal(size=m) + 1j * rng.normal(size=m))
        return model, truth, naive, x, y.real if real else y

    return make


KINDS = {
    **{
        f"{n} decay{'s' * (n > 1)}, noise {noise:g}": decays(n, noise)
        for n in (1, 2, 3)
        for noise in (0.001, 0.01, 0.05)
    },
    **{
        f"{n} {kind.__name__.lower()}{'s' * (n > 1)}, noise {noise:g}": peaks(kind, n, noise)
        for kind in (vp.Gaussian, vp.Lorentzian)
        for n in (1, 3, 8)
        for noise in (0.01, 0.05)
    },
    **{
        f"{n} {what}{'s' * (n > 1)}, noise {noise:g}": waves(kind, n, noise)
        for kind, what in ((vp.ComplexExp, "wave"), (vp.Oscillation, "oscillation"))
        for n in (1, 3, 8)
        for noise in (0.01, 0.05)
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--only", default="", help="run the kinds whose name contains this text")
    args = parser.parse_args()
    print(f"{'':28}{'found':>8}{'naive':>8}{'start':>10}{'whole fit':>11}")
    for name, make in KINDS.items():
        if args.only not in name:
            continue
        found, plain, spent, whole = 0, 0, [], []
        for seed in range(args.cases):
            model, truth, naive, x, y = make(np.random.default_rng(seed))
            best = vp.fit(model(truth), x, y).cost * (1 + 1e-6)
            begun = time.perf_counter()
            free = vp.fit(model(), x, y)
            whole.append(time.perf_counter() - begun)
            found += free.cost <= best
            begun = time.perf_counter()
            again = vp.fit(model(naive), x, y)
            spent.append(whole[-1] - (time.perf_counter() - begun))
            plain += again.cost <= best
        print(
            f"{name:28}{100 * found / args.cases:7.0f}%{100 * plain / args.cases:7.0f}%"
            f"{1e3 * statistics.median(spent):8.1f}ms{1e3 * statistics.median(whole):9.1f}ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
