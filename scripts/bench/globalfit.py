"""One fit of many right-hand sides against peers: three lifetimes after a Gaussian response.

    python scripts/bench/globalfit.py [--rhs K ...] [--repeats N] [--json FILE]

1000 times, K decays that share three lifetimes, the centre and the width of the response: five
nonlinear parameters, 3 K amplitudes. Same data and start for all, turns taken in one process; times
are medians. `found`: the chi-square is within 1e-6 of the least.

- `varpro.fit`: float64, from data to standard errors of everything; memory is the peak beyond the
    data of a process of its own, as a multiple of the data.
- `scipy varpro`: hand-written: one QR per evaluation, Kaufman's Jacobian of all residuals.
- `pyglotaran`: with `--pyglotaran PYTHON`, an interpreter that has it, in a process of its own.
"""

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
from scipy.optimize import least_squares
from scipy.special import erfc

import varpro as vp

M = 1000
T = np.linspace(-2.0, 40.0, M)
TRUTH, START = (0.3, 0.25, 0.8, 3.0, 12.0), (0.1, 0.4, 0.5, 4.0, 20.0)


def columns(alpha):
    center, width, *taus = alpha
    t = (T - center)[:, None]
    rate = 1.0 / np.array(taus)
    return (
        0.5
        * np.exp(0.5 * (rate * width) ** 2 - rate * t)
        * erfc((rate * width - t / width) / np.sqrt(2))
    )


def data(k):
    rng = np.random.default_rng(0)
    coef = rng.uniform(0.2, 1.0, (3, k))
    y = columns(TRUTH) @ coef
    y += 0.01 * rng.standard_normal((M, k))
    return y


def chisq(alpha, y):
    q = np.linalg.qr(columns(alpha))[0]
    return float(np.sum(y**2) - np.sum((q.T @ y) ** 2))


def ours(y):
    irf = vp.GaussianIRF("irf", center=START[0], width=START[1])
    model = sum(vp.Exp(f"s{i}", tau=START[2 + i], irf=irf) for i in range(3))
    fit = vp.fit(model, T, y)
    names = ("irf.center", "irf.width", "s0.tau", "s1.tau", "s2.tau")
    return np.array([fit[name].value for name in names])


def scipy_varpro(y):
    known = {}

    def residual(alpha):
        q, r = np.linalg.qr(columns(alpha))
        qty = q.T @ y
        known.update(q=q, c=np.linalg.solve(r, qty), at=alpha.copy())
        return (y - q @ qty).ravel()

    def jacobian(alpha):
        if not np.array_equal(known["at"], alpha):
            residual(alpha)
        phi = columns(alpha)
        center, width, *taus = alpha
        t = (T - center)[:, None]
        rate = 1.0 / np.array(taus)
        bell = np.exp(-0.5 * (t / width) ** 2) / np.sqrt(2 * np.pi) / width
        by_center = rate * phi - bell
        by_width = rate**2 * width * phi - (rate * width + t / width) * bell / 1.0
        by_rate = (rate * width**2 - t) * phi - width**2 * bell
        by_tau = -by_rate / np.array(taus) ** 2
        c, q = known["c"], known["q"]
        blocks = [by_center @ c, by_width @ c]
        blocks += [by_tau[:, [i]] * c[i] for i in range(3)]
        return np.stack([(q @ (q.T @ b) - b).ravel() for b in blocks], axis=1)

    options = {"x_scale": "jac", "ftol": 1e-8, "xtol": 1e-8, "gtol": 1e-8}
    return least_squares(residual, np.array(START), jacobian, **options).x


# Run by an interpreter that has pyglotaran: reads x and y, prints the parameters and the time.
PYGLOTARAN = """
import sys, time, json, warnings
warnings.filterwarnings("ignore")
import numpy as np, xarray as xr
from glotaran.model import Model
from glotaran.optimization.optimize import optimize
from glotaran.parameter import Parameters
from glotaran.project import Scheme
from glotaran.plugin_system.megacomplex_registration import get_megacomplex
loaded = np.load(sys.argv[1])
t, y, start = loaded["t"], loaded["y"], loaded["start"].tolist()
kinds = {"decay-parallel": get_megacomplex("decay-parallel")}
model = Model.create_class_from_megacomplexes(list(kinds.values()))(
    **{
        "megacomplex": {
            "m": {"type": "decay-parallel", "compartments": ["a", "b", "c"], "rates": ["k.1", "k.2", "k.3"]}
        },
        "irf": {"irf": {"type": "gaussian", "center": "irf.center", "width": "irf.width"}},
        "dataset": {"d": {"megacomplex": ["m"], "irf": "irf"}},
    }
)
parameters = Parameters.from_dict(
    {"irf": [["center", start[0]], ["width", start[1]]], "k": [1 / v for v in start[2:]]}
)
dataset = xr.DataArray(y, coords=[("time", t), ("spectral", np.arange(y.shape[1], dtype=float))])
dataset = dataset.to_dataset(name="data")
times = []
for _ in range(int(sys.argv[2])):
    scheme = Scheme(model=model, parameters=parameters, data={"d": dataset}, maximum_number_function_evaluations=50)
    begun = time.perf_counter()
    result = optimize(scheme, verbose=False)
    times.append(time.perf_counter() - begun)
p = result.optimized_parameters
alpha = [p.get("irf.center").value, p.get("irf.width").value]
alpha += [1 / p.get(f"k.{i}").value for i in (1, 2, 3)]
error = [p.get("irf.center").standard_error, p.get("irf.width").standard_error]
print(json.dumps({"alpha": alpha, "times": times, "error": error}))
"""


def pyglotaran(interpreter, y, repeats):
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, t=T, y=y, start=np.array(START))
        file.flush()
        words = [interpreter, "-c", PYGLOTARAN, file.name, str(repeats)]
        done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_memory(k):
    """Peak beyond data and program of one fit in a process of its own, as a multiple of the data."""
    words = [sys.executable, __file__, "--memory", str(k)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure_memory(k):
    y = data(k)
    ours(y[:, : max(k // 10, 4)])  # what JAX and its compiler take
    gc.collect()
    before, peak, done = resident(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(1e-3):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    ours(y)
    done.set()
    watcher.join()
    print((peak - before) / y.nbytes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rhs", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--pyglotaran", help="an interpreter that has pyglotaran")
    parser.add_argument("--json", help="write the measurements to this file")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        measure_memory(args.memory)
        return
    print(f"jax {jax.__version__}, {os.cpu_count()} cores, m = {M}, float64")
    results = []
    for k in args.rhs:
        y = data(k)
        runs = {"varpro.fit": lambda y=y: ours(y)}
        if k <= 10_000:
            runs["scipy varpro"] = lambda y=y: scipy_varpro(y)
        costs = {name: chisq(run(), y) for name, run in runs.items()}
        times = {name: [] for name in runs}
        for i in range(args.repeats):
            for name, run in runs.items():
                if i < 2 or sum(times[name]) < 20:
                    begun = time.perf_counter()
                    run()
                    times[name].append(time.perf_counter() - begun)
        if args.pyglotaran and k <= 1000:
            other = pyglotaran(args.pyglotaran, y, 3)
            if other:
                times["pyglotaran"] = other["times"]
                costs["pyglotaran"] = chisq(other["alpha"], y)
        ours_median = statistics.median(times["varpro.fit"])
        # Below that the compiler's own memory hides it.
        memory = f", memory {peak_memory(k):.2f} of the data" if k >= 10_000 else ""
        print(f"\nk = {k}{memory}")
        for name, taken in times.items():
            median = statistics.median(taken)
            found = costs[name] <= min(costs.values()) * (1 + 1e-6)
            print(
                f"  {name:14}{1e3 * median:12.1f} ms{median / ours_median:9.1f}x  "
                f"{'yes' if found else 'NO'}",
                flush=True,
            )
            results.append({"k": k, "who": name, "median_ms": 1e3 * median, "found": bool(found)})
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
