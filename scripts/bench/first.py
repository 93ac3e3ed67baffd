"""What the first fit of a process costs, and the next one that is a little different.

    .venv/bin/python scripts/bench/first.py [--runs 5] [--json OUT]

Two decays and a constant, m = 1000. Whole processes take turns, and within a process what is compared
does; medians. The peers are lmfit and scipy with variable projection written by hand.
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

DATA = """
import numpy as np
def data(m, seed=0):
    t = np.linspace(0.0, 20.0, m)
    y = 3 * np.exp(-t / 1.2) + 2 * np.exp(-t / 6.0) + 0.5
    return t, y + np.random.default_rng(seed).normal(0.0, 0.02, m)
t, y = data(1000)
"""
LMFIT = (
    DATA
    + """
import lmfit
def decays(x, a, b, c, fast, slow):
    return a * np.exp(-x / fast) + b * np.exp(-x / slow) + c
fit = lmfit.Model(decays).fit(y, x=t, a=1.0, b=1.0, c=0.0, fast=1.0, slow=5.0)
assert abs(fit.params["slow"].value - 6.0) < 0.5
"""
)
SCIPY = (
    DATA
    + """
from scipy.optimize import least_squares
def resid(tau):
    phi = np.stack([np.exp(-t / tau[0]), np.exp(-t / tau[1]), np.ones_like(t)], axis=1)
    q, _ = np.linalg.qr(phi)
    return y - q @ (q.T @ y)
assert abs(least_squares(resid, [1.0, 5.0], method="lm").x[1] - 6.0) < 0.5
"""
)
VARPRO = (
    DATA
    + """
import varpro as vp
model = vp.Exp("fast", tau=1.0) + vp.Exp("slow", tau=5.0) + vp.Constant("c")
assert abs(vp.fit(model, t, y)["slow.tau"].value - 6.0) < 0.5
"""
)
# What follows runs inside one process, after a first fit: seconds by name, as JSON.
INSIDE = (
    VARPRO
    + """
import json, statistics, time
found = {}
def timed(name, call, repeats=1):
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        assert call().success
        spent.append(time.perf_counter() - start)
    found[name] = statistics.median(spent)
timed("another length", lambda: vp.fit(model, *data(990)))
timed("another size", lambda: vp.fit(model, *data(300)))
timed("a bound", lambda: vp.fit(model, t, y, bounds={"fast.tau": (0.1, 3.0)}))
timed("weights", lambda: vp.fit(model, t, y, sigma=0.02 + 0 * t))
timed("a mask", lambda: vp.fit(model, t, y, mask=t > 0.1))
timed("Poisson", lambda: vp.fit(model, t, np.round(1000 * np.abs(y)), noise="poisson"))
timed("a fixed parameter", lambda: vp.fit(model, t, y, fix="slow.tau"))
sets = {f"d{i}": data(920 + 2 * i, i) for i in range(60)}
timed("60 data sets, first", lambda: vp.fit(model, sets))
timed("60 data sets, again", lambda: vp.fit(model, sets), 7)
same = {f"d{i}": data(1000, i) for i in range(60)}
vp.fit(model, same)
timed("60 data sets of one length, again", lambda: vp.fit(model, same), 7)
for m in (100, 1000):
    t, y = data(m)
    prepared = vp.prepare(model, t)
    vp.fit(model, t, y), prepared.fit(y)
    found |= warm(m, t, y, model, prepared)
print(json.dumps(found))
"""
)
WARM = """
def warm(m, t, y, model, prepared):
    import statistics, time
    from scipy.optimize import least_squares
    def resid(tau):
        phi = np.stack([np.exp(-t / tau[0]), np.exp(-t / tau[1]), np.ones_like(t)], axis=1)
        q, _ = np.linalg.qr(phi)
        return y - q @ (q.T @ y)
    calls = {
        "scipy": lambda: least_squares(resid, [1.0, 5.0], method="lm"),
        "fit": lambda: vp.fit(model, t, y),
        "prepared": lambda: prepared.fit(y),
    }
    spent = {name: [] for name in calls}
    for _ in range(51):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            spent[name].append(time.perf_counter() - start)
    return {f"warm m={m}, {name}": statistics.median(s) for name, s in spent.items()}
"""


def seconds(command: list[str], env: dict[str, str]) -> tuple[float, str]:
    """Wall time of a command, which must succeed, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)[:80]} failed:\n{done.stderr}")
    return elapsed, done.stdout


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def measure(runs: int) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        cache = folder / "cache"
        # matplotlib's cache is kept apart, so that no run builds its list of fonts.
        env = {
            name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
        }
        # An installed package has its byte code, as the peers have theirs.
        env |= {"XDG_CACHE_HOME": str(cache), "MPLCONFIGDIR": str(folder / "fonts")}
        run = [sys.executable, "-m", "varpro", "run", "configs/gauss1.yaml", "--quiet"]
        run += ["--overwrite", "--out", str(folder / "run")]
        commands = {
            "lmfit": python(LMFIT),
            "scipy": python(SCIPY),
            "import jax": python("import jax"),
            "import varpro": python("import jax, varpro; varpro.fit"),
            "varpro, nothing compiled": python(VARPRO),
            "varpro, kept programs": python(VARPRO),
            "varpro run, nothing compiled": run,
            "varpro run, kept programs": run,
        }
        for command in commands.values():
            seconds(command, env)  # bytecode and file cache
        spent: dict[str, list[float]] = {who: [] for who in commands}
        inside: dict[str, list[float]] = {}
        for _ in range(runs):
            shutil.rmtree(cache, ignore_errors=True)
            for (
                who,
                command,
            ) in commands.items():  # what compiles fills the cache that the next finds
                spent[who].append(seconds(command, env)[0])
            off = env | {"VARPRO_CACHE": "off"}
            code = INSIDE.replace("import varpro as vp", WARM + "import varpro as vp", 1)
            for what, value in json.loads(seconds(python(code), off)[1]).items():
                inside.setdefault(what, []).append(value)
    rows = [
        {"case": "process", "who": who, "value": statistics.median(s), "unit": "s"}
        for who, s in spent.items()
    ]
    for what, s in inside.items():
        case, _, who = what.rpartition(", ") if what.startswith("warm") else ("next fit", "", what)
        rows.append({"case": case, "who": who, "value": 1e3 * statistics.median(s), "unit": "ms"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="write the medians to this file")
    args = parser.parse_args()
    rows = measure(args.runs)
    for row in rows:
        print(f"{row['case']:14} {row['who']:36} {row['value']:9.2f} {row['unit']}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
