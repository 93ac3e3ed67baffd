"""How often 95 % intervals hold the truth where noise is not normal, coefficients are not negative, or
several data sets share a lifetime: the second table of `docs/statistics.md`.

    python scripts/bench/coverage_noise.py [--sets 2000] [--few 300]

`--sets` simulated curves where many are fitted at once, `--few` where each takes fits of its own.
"""

import argparse

import numpy as np
import scipy.stats

import varpro as vp

T = np.linspace(0.0, 6.0, 40)
TRUTH = np.array([1.5, 3.0, 0.5])
MODEL = vp.Exp("decay", tau=1.5) + vp.Constant("bg")
CLEAN = 3.0 * np.exp(-T / 1.5) + 0.5
SIGMA = 0.05


def row(name: str, held: dict[str, float], sets: int) -> None:
    low, high = scipy.stats.binom.ppf([0.005, 0.995], sets, 0.95) * 100 / sets
    said = ", ".join(f"{k} {v:.1f}{'' if low <= v <= high else '*'}" for k, v in held.items())
    print(f"| {name} | {said} |", flush=True)


def of_many(name: str, y: np.ndarray, truth: np.ndarray, absolute: bool, **options) -> None:
    fit = vp.fit_many(MODEL, T, y, start="global", **options)
    dof = np.inf if absolute else T.size - 3
    reach = scipy.stats.t.ppf(0.975, dof)
    values = np.concatenate([fit.alpha, fit.coef], axis=1)
    errors = np.concatenate([fit.alpha_stderr, fit.coef_stderr], axis=1)
    good = fit.success[:, None] & np.isfinite(errors)
    held = np.mean(good & (np.abs(values - truth) <= reach * errors), axis=0) * 100
    lost = int(np.sum(~good.all(axis=1)))
    row(
        name + (f" ({lost} without)" if lost else ""),
        dict(zip(("decay.tau", "decay", "bg"), held, strict=True)),
        len(y),
    )


def robust(rng: np.random.Generator, sets: int) -> None:
    noise = SIGMA * rng.normal(size=(sets, T.size))
    wild = np.where(
        rng.random(noise.shape) < 0.1, 10.0 * SIGMA * rng.normal(size=noise.shape), noise
    )
    for name, scale in (("cauchy", 2.385), ("huber", 1.345), ("soft_l1", 1.0)):
        for what, extra in (("no outliers", noise), ("10 % outliers", wild)):
            of_many(
                f"{name}, {what}", CLEAN + extra, TRUTH, False, noise=name, loss_scale=scale * SIGMA
            )


def counts(rng: np.random.Generator, sets: int) -> None:
    for photons in (20, 50, 100, 1000):
        factor = photons / CLEAN.sum()
        y = rng.poisson(factor * CLEAN, size=(sets, T.size))
        truth = TRUTH * np.array([1.0, factor, factor])
        of_many(f"poisson, {photons} photons", y, truth, True, noise="poisson")


def nonnegative(rng: np.random.Generator, few: int) -> None:
    model = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=3.0) + vp.Constant("bg")
    truth = {"fast.tau": 0.5, "slow.tau": 3.0, "fast": 2.0, "slow": 1.0, "bg": 0.02}
    x = np.linspace(0.0, 8.0, 50)
    clean = 2.0 * np.exp(-x / 0.5) + np.exp(-x / 3.0) + 0.02
    held = {method: dict.fromkeys(truth, 0) for method in ("covariance", "profile")}
    for _ in range(few):
        fit = vp.fit(model, x, clean + 0.03 * rng.normal(size=x.size), nonnegative=True)
        for method, counted in held.items():
            found = fit.ci(method=method)
            for name, value in truth.items():
                counted[name] += found[name].lower <= value <= found[name].upper
    for method, counted in held.items():
        row(f"nonnegative, {method}", {k: 100 * v / few for k, v in counted.items()}, few)


def three_sets(rng: np.random.Generator, few: int) -> None:
    """Data sets that share the lifetime, of other heights; of counts 20, 50 and 100 photons."""
    heights = {"a": 1.0, "b": 0.5, "c": 2.0}
    photons = {"a": 50.0, "b": 20.0, "c": 100.0}
    for noise in ("normal", "cauchy", "poisson"):
        held, lost = {"decay.tau": 0, "a.decay": 0, "a.bg": 0}, 0
        for _ in range(few):
            sets, factor = {}, {}
            for key, height in heights.items():
                factor[key] = photons[key] / CLEAN.sum() if noise == "poisson" else height
                mean = factor[key] * CLEAN
                y = mean + SIGMA * rng.normal(size=T.size)
                if noise == "cauchy":
                    y += (rng.random(T.size) < 0.1) * 10.0 * SIGMA * rng.normal(size=T.size)
                sets[key] = (T, rng.poisson(mean) if noise == "poisson" else y)
            scale = 2.385 * SIGMA if noise == "cauchy" else 1.0
            fit = vp.fit(MODEL, sets, noise=noise, loss_scale=scale)
            absolute = noise == "poisson"
            reach = scipy.stats.norm.ppf(0.975) if absolute else scipy.stats.t.ppf(0.975, fit.dof)
            truth = TRUTH * np.array([1.0, factor["a"], factor["a"]])
            found = [fit[name] for name in held]
            good = fit.success and all(np.isfinite(one.stderr) for one in found)
            lost += not good
            for one, name, value in zip(found, held, truth, strict=True):
                held[name] += good and abs(one.value - value) <= reach * one.stderr
        what = {
            "normal": "",
            "cauchy": ", cauchy, 10 % outliers",
            "poisson": ", 50, 20 and 100 photons",
        }
        name = f"three data sets{what[noise]}" + (f" ({lost} without)" if lost else "")
        row(name, {k: 100 * v / few for k, v in held.items()}, few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--few", type=int, default=300)
    kinds = {"robust": robust, "counts": counts, "nonnegative": nonnegative, "sets": three_sets}
    parser.add_argument("--only", nargs="+", default=list(kinds), choices=list(kinds))
    asked = parser.parse_args()
    print("| case | per cent of intervals that hold the truth |\n|---|---|")
    for seed, (name, kind) in enumerate(kinds.items(), 1):
        if name in asked.only:
            many = asked.sets if name in ("robust", "counts") else asked.few
            kind(np.random.default_rng(seed), many)


if __name__ == "__main__":
    main()
