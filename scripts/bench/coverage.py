"""How often 95 % intervals hold the truth: covariance and profile, of simulated data sets.

    python scripts/bench/coverage.py [--sets 1000] [--bootstrap 0] [--case exponentials ...]

Prints the share by quantity, and in brackets, where it is not all, how many data sets have an
interval at all (a parameter on its bound has none by covariance). An asterisk marks a share outside
the band in which exact intervals lie with 99 %. `--bootstrap 200` adds percentile intervals of 400
replicates for that many of the data sets, by residuals and with wild signs.
"""

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
from coverage_cases import CASES, band, coverage  # noqa: E402


def marked(share: float, sets: int) -> str:
    if np.isnan(share):
        return ""
    low, high = band(sets)
    return f"{100 * share:.1f}{'' if low <= share <= high else ' *'}"


def by_bootstrap(case, sets: int, kind: str, replicates: int = 400) -> np.ndarray:
    """Shares (r,) of the percentile intervals of the first `sets` data sets."""
    data = case.noisy(np.random.default_rng(0), sets)
    hits, rhs = 0, None if data.ndim == 2 else 0
    for i, y in enumerate(data):
        fit = case.fit(y)
        theta = [fit.params[fit.names[j]].init for j in fit.layout.free]
        true = np.concatenate([theta, case.coef.reshape(len(fit.columns), -1)[:, 0]])
        names = [fit.names[j] for j in fit.layout.free] + list(fit.columns)
        found = fit.bootstrap(replicates, kind, key=i).ci(0.95, names, rhs)
        hits = hits + ((found.lower <= true) & (true <= found.upper))
    return np.concatenate([hits / sets, [np.nan, np.nan]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--bootstrap", type=int, default=0, help="data sets for the bootstrap")
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    asked = parser.parse_args()
    low, high = band(asked.sets)
    print(f"99 % of exact intervals lie between {100 * low:.1f} and {100 * high:.1f} %.\n")
    head = ["case", "quantity", "covariance", "profile"]
    if asked.bootstrap:
        head += ["residual", "wild"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for name in asked.case:
        found = coverage(CASES[name], asked.sets)
        more = [
            by_bootstrap(CASES[name], asked.bootstrap, kind)
            for kind in ("residual", "wild")
            if asked.bootstrap
        ]
        for i, quantity in enumerate(found.names):
            given = int(found.given[i])
            row = [name if i == 0 else "", quantity]
            row.append(marked(found.covariance[i], given))
            if given < asked.sets:
                row[-1] += f" ({given})"
            row.append(marked(found.profile[i], asked.sets))
            row += [marked(shares[i], asked.bootstrap) for shares in more]
            print("| " + " | ".join(row) + " |")
        if found.failed:
            print(f"| | {found.failed} of {asked.sets} fits did not converge: misses |" + " |" * 2)


if __name__ == "__main__":
    main()
