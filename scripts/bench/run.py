"""All timed benchmarks in one run, compared with the committed baseline, and the page they make.

    python scripts/bench/run.py [--only single global ...] [--quick] [--check] [--baseline] [--render]

Each suite is a script beside this one, run in a process of its own; peers take turns with us in it,
where they are installed: scipy and lineax always are; flimlib where it can be imported; pyglotaran by
`--pyglotaran PYTHON`, an interpreter that has it, and PyDMD by `--pydmd PYTHON`. Numbers are the least
of the repeats, which other work on the machine disturbs least.

- `--quick`: small sizes and few repeats, minutes.
- `--check`: exit 1 if a ratio to a peer is more than `--factor` times that of the baseline.
- `--baseline`: write what was measured to baseline.json. A suite that was not run keeps its numbers.
- `--render`: write pictures and numbers of docs/benchmarks from baseline.json.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from metrics import Metric, read, related, worse, write  # noqa: E402

HERE = pathlib.Path(__file__).parent
BASELINE = HERE / "baseline.json"


def measured(script: str, *words: str) -> Any:
    """What a script writes with --json."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        command = [sys.executable, str(HERE / script), *words, "--json", str(out)]
        print(f"\n== {' '.join(command[1:-2])}", flush=True)
        subprocess.run(command, check=True, env={"OPENBLAS_NUM_THREADS": "1", **os.environ})
        return json.loads(out.read_text())


def single(args: argparse.Namespace) -> Iterator[Metric]:
    words = ["--repeats", "10", "--only", "decays m=1000"] if args.quick else []
    rows = []
    for row in measured("single.py", *words):
        case = row["case"]
        size = float(case.rpartition("=")[2]) if case.startswith("decays") else None
        name = "samples" if size else ""
        who, value = row["who"], row["least_ms"]
        rows.append(Metric("single", case, who, value, "ms", size=size, size_name=name))
    yield from related(rows, "scipy varpro")


def many(args: argparse.Namespace) -> Iterator[Metric]:
    words = ["--rhs", *(["100", "1000"] if args.quick else ["100", "1000", "10000", "100000"])]
    words += ["--pyglotaran", args.pyglotaran] if args.pyglotaran else []
    rows = [
        Metric(
            *("global", f"k={row['k']}", row["who"], row["least_ms"], "ms"),
            size=float(row["k"]),
            size_name="right-hand sides",
        )
        for row in measured("globalfit.py", *words)
    ]
    yield from related(rows, "scipy varpro")


def image(args: argparse.Namespace) -> Iterator[Metric]:
    rows = []
    for pixels in (1024, 4096) if args.quick else (1024, 8192, 65536):
        for row in measured("image.py", "--pixels", str(pixels)):
            rows.append(
                Metric(
                    *("image", f"{row['noise']} {pixels}", row["who"], row["best_per_second"]),
                    *("curves/s", "higher"),
                    size=float(pixels),
                    size_name="pixels",
                )
            )
    yield from related(rows, "scipy varpro" if not _has("flimlib") else "flimlib float32")


def kernels(args: argparse.Namespace) -> Iterator[Metric]:
    words = ["--repeats", "15", "--only", "QR 2000x50"] if args.quick else []
    rows = []
    tangents = {"primal": 0.0, "jvp": 1.0, "10 tangents": 10.0, "50 tangents": 50.0}
    for row in measured("jvp.py", *words)["rows"]:
        case = f"{row['solver']} {row['shape'][0]}x{row['shape'][1]} {row['kind']}"
        size = tangents.get(row["kind"])
        name = "tangents" if size is not None else ""
        for who, value in (("varpro", row["ours_least_ms"]), ("lineax", row["lineax_least_ms"])):
            rows.append(Metric("kernels", case, who, value, "ms", size=size, size_name=name))
    yield from related(rows, "lineax")


def first(args: argparse.Namespace) -> Iterator[Metric]:
    words = ["--runs", "1"] if args.quick else []
    rows = [
        Metric("first", row["case"], row["who"], row["value"], row["unit"])
        for row in measured("first.py", *words)
    ]
    processes = [one for one in rows if one.case == "process"]
    yield from related(processes, "lmfit")
    yield from related((one for one in rows if one.case != "process"), "scipy")


def waves(args: argparse.Namespace) -> Iterator[Metric]:
    words = ["--rows", "500", "--repeats", "3"] if args.quick else []
    words += ["--pydmd", args.pydmd] if args.pydmd else []
    rows = [
        Metric("complex", "8 exponentials", row["who"], row["least_ms"], "ms")
        for row in measured("complex.py", *words)
    ]
    yield from related(rows, "BOPDMD, projected" if args.pydmd else "scipy varpro")


SUITES: dict[str, Callable[[argparse.Namespace], Iterator[Metric]]] = {
    "single": single,
    "global": many,
    "image": image,
    "complex": waves,
    "kernels": kernels,
    "first": first,
}


def _has(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def machine() -> dict[str, Any]:
    import importlib.metadata as known

    names = [n for n in ("jax", "scipy", "lineax", "lmfit", "flimlib") if _has(n)]
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        **{name: known.version(name) for name in names},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pyglotaran", help="an interpreter that has pyglotaran")
    parser.add_argument("--pydmd", help="an interpreter that has PyDMD")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--factor", type=float, default=1.5)
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--render", action="store_true")
    args = parser.parse_args()
    if args.render:
        from page import render

        render(*read(BASELINE))
        return
    found = [metric for name in args.only for metric in SUITES[name](args)]
    print(f"\n{'metric':52}{'value':>12}{'':10}{'of peer':>8}")
    for one in found:
        ratio = f"{one.ratio:.2f} {one.against}" if one.ratio else ""
        print(f"{one.key:52}{one.value:12.4g} {one.unit:9}{ratio}")
    old = read(BASELINE)[1] if BASELINE.exists() else []
    complaints = worse(found, old, args.factor)
    print("\n".join(complaints) or "\nNo ratio is worse than in the baseline.")
    if args.baseline:
        kept = [one for one in old if one.suite not in args.only]
        order = list(SUITES)
        write(BASELINE, machine(), sorted([*kept, *found], key=lambda one: order.index(one.suite)))
    if args.check and complaints:
        sys.exit(1)


if __name__ == "__main__":
    main()
