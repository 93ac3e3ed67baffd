"""What a first fit costs in a fresh process, against importing JAX and against lmfit.

    .venv/bin/python scripts/bench/cold.py [--runs 5]

Prints medians of interleaved runs and their ratios:

- `cold`: `varpro run configs/gauss1.yaml`, nothing compiled before;
- `warm`: the same with the compiled programs of an earlier run in the cache;
- `jax`: `python -c "import jax"`, below which no JAX program can be;
- `lmfit`: reading the same data and fitting the same model with lmfit; no report, no figure.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LMFIT = """
import numpy as np, lmfit
x, y = np.loadtxt("configs/data/gauss1.csv", delimiter=",", skiprows={skip}, unpack=True)
def model(x, a, rate, b, c1, w1, d, c2, w2):
    peaks = ((b, c1, w1), (d, c2, w2))
    return a * np.exp(-rate * x) + sum(
        h * np.exp(-0.5 * ((x - c) / w) ** 2) for h, c, w in peaks
    )
start = dict(a=94, rate=0.009, b=90.1, c1=65, w1=14.1, d=70.8, c2=178, w2=11.7)
fit = lmfit.Model(model).fit(y, x=x, **start)
assert abs(fit.params["rate"].value / 1.0497276517e-02 - 1) < 1e-5
"""


def seconds(command: list[str], env: dict[str, str]) -> float:
    """Wall time of a command, which must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)[:80]} failed:\n{done.stderr}")
    return elapsed


def measure(runs: int) -> dict[str, list[float]]:
    lines = (ROOT / "configs/data/gauss1.csv").read_text().splitlines()
    skip = next(i for i, line in enumerate(lines) if line[:1].isdigit())
    with tempfile.TemporaryDirectory() as folder:
        # The programs' caches: varpro's under this one, matplotlib's kept apart so that no run
        # builds its list of fonts, which is a cost of the first run on a machine.
        cache = pathlib.Path(folder) / "cache"
        env = os.environ | {"XDG_CACHE_HOME": str(cache)}
        env |= {"MPLCONFIGDIR": str(pathlib.Path(folder) / "matplotlib")}
        out = str(pathlib.Path(folder) / "run")
        run = [sys.executable, "-m", "varpro", "run", "configs/gauss1.yaml", "--quiet"]
        run += ["--overwrite", "--out", out]
        commands = {
            "cold": run,
            "warm": run,
            "jax": [sys.executable, "-c", "import jax"],
            "lmfit": [sys.executable, "-c", LMFIT.replace("{skip}", str(skip))],
        }
        for command in commands.values():
            seconds(command, env)  # bytecode and file cache
        if not any((cache / "varpro" / "jax").iterdir()):
            sys.exit(f"no compiled programs under {cache}: 'cold' and 'warm' would not differ")
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            shutil.rmtree(cache / "varpro")
            for name, command in commands.items():  # cold fills the cache that warm finds
                times[name].append(seconds(command, env))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="write the medians to this file")
    args = parser.parse_args()
    times = measure(args.runs)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:6} {median[name]:7.2f} s   ({min(values):.2f} ... {max(values):.2f})")
    for name in ("cold", "warm"):
        for other in ("jax", "lmfit"):
            print(f"{name} / {other:6} {median[name] / median[other]:6.2f}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(median))


if __name__ == "__main__":
    main()
