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
import tempfile
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
NAMES = ("irf.center", "irf.width", "s0.tau", "s1.tau", "s2.tau")
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


def data(k, seed=0):
    rng = np.random.default_rng(seed)
    coef = rng.uniform(0.2, 1.0, (3, k))
    y = columns(TRUTH) @ coef
    y += 0.01 * rng.standard_normal((M, k))
    return y


def chisq(alpha, y):
    q = np.linalg.qr(columns(alpha))[0]
    return float(np.sum(y**2) - np.sum((q.T @ y) ** 2))


def ours(y):
    return vp.fit(ours_model(), T, y)


def ours_model():
    irf = vp.GaussianIRF("irf", center=START[0], width=START[1])
    return sum(vp.Exp(f"s{i}", tau=START[2 + i], irf=irf) for i in range(3))


def values(fit):
    return np.array([fit[name].value for name in NAMES])


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
error += [p.get(f"k.{i}").standard_error / p.get(f"k.{i}").value ** 2 for i in (1, 2, 3)]
found = {"alpha": alpha, "times": times, "error": error, "chisq": 2 * result.cost}
print(json.dumps(found | {"dof": int(result.degrees_of_freedom)}))
"""


def pyglotaran(interpreter, y, repeats):
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, t=T, y=y, start=np.array(START))
        file.flush()
        words = [interpreter, "-c", PYGLOTARAN, file.name, str(repeats)]
        done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def errors_of_the_residual(alpha, y, chisq, dof):
    """Standard errors by the Jacobian of the projected residual as it is, by differences.

    It has a term, of the size of the noise, that the normal equations of all parameters do not have:
    those give the errors of `varpro.fit`, as of any fit of the full problem.
    """

    def residual(at):
        q = np.linalg.qr(columns(at))[0]
        return (y - q @ (q.T @ y)).ravel()

    jac = []
    for i in range(len(alpha)):
        step = 1e-5 * abs(alpha[i]) * np.eye(len(alpha))[i]
        near = residual(alpha + step) - residual(alpha - step)
        far = residual(alpha + 2 * step) - residual(alpha - 2 * step)
        jac.append((8 * near - far) / (12e-5 * abs(alpha[i])))
    jac = np.stack(jac, axis=1)
    return np.sqrt(np.diag(np.linalg.inv(jac.T @ jac)) * chisq / dof)


def agreement(y, other):
    """The largest relative differences between our fit and pyglotaran's, in a line."""
    fit = ours(y)

    def far(a, b):
        return np.max(np.abs(np.asarray(a) / b - 1))

    own = [fit[name].stderr for name in NAMES]
    same = errors_of_the_residual(values(fit), y, fit.chisq, fit.dof)
    return (
        f"  largest relative difference to pyglotaran: parameters "
        f"{far(other['alpha'], values(fit)):.1e}, chi-square {far(other['chisq'], fit.chisq):.1e}, "
        f"degrees of freedom {other['dof'] - fit.dof}, standard errors {far(other['error'], own):.1e}, "
        f"by its own formula {far(other['error'], same):.1e}"
    )


def peak_memory(k):
    """Peak beyond data and program of one fit in a process of its own, as a multiple of the data."""
    words = [sys.executable, __file__, "--memory", str(k)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout)


def resident():
    """Memory of this process that no file backs, in bytes."""
    with open("/proc/self/statm") as file:
        _, all_, shared = file.read().split()[:3]
    return (int(all_) - int(shared)) * resource.getpagesize()


def measure_memory(k):
    y = data(k)
    ours(y[:, : max(k // 10, 4)])  # what JAX and its compiler take
    print(peak_of(lambda: ours(y)) / y.nbytes)


def measure_disk(k):
    """A fit of data in a file: seconds, and peak memory as a multiple of the data."""
    with tempfile.NamedTemporaryFile() as file:
        y = np.memmap(file.name, dtype=float, mode="w+", shape=(M, k))
        for first in range(0, k, 10_000):
            y[:, first : first + 10_000] = data(k=min(10_000, k - first), seed=first)
        y.flush()
        ours(lambda: iter([np.asarray(y[:, :4000])]))
        begun = time.perf_counter()
        memory = peak_of(lambda: ours(y))
        print(
            f"\nk = {k} in a file: {time.perf_counter() - begun:.1f} s, "
            f"memory {memory / y.nbytes:.2f} of the data"
        )


def peak_of(run):
    """Peak memory while something runs, beyond what there was before."""
    gc.collect()
    before, peak, done = resident(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(1e-3):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return peak - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rhs", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--disk", type=int, help="fit so many right-hand sides in a file")
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
        runs = {"varpro.fit": lambda y=y: values(ours(y))}
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
        compared = ""
        if args.pyglotaran and k <= 1000:
            other = pyglotaran(args.pyglotaran, y, 3)
            if other:
                times["pyglotaran"] = other["times"]
                costs["pyglotaran"] = chisq(other["alpha"], y)
                compared = agreement(y, other)
        if compared:
            print(compared)
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
            row = {"k": k, "who": name, "median_ms": 1e3 * median, "least_ms": 1e3 * min(taken)}
            results.append(row | {"found": bool(found)})
    if args.disk:
        measure_disk(args.disk)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
