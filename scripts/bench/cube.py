"""A cube of 1000 x 1000 decays with 256 bins, fitted from a file in blocks: time and memory.

    python scripts/bench/cube.py [--side N] [--gib 4] [--format nc|zarr|npy] [--folder DIR] [--keep]

The cube is written as counts (uint16) and fitted by `varpro run` in a process of its own, whose
largest resident memory, pages of the file included, is reported. Exits with 1 above the limit.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import xarray as xr

BINS = 256
CONFIG = """\
data: {path: %s, variable: %s, x: time%s}
model:
  fast: {kind: exp, tau: 1.0}
  slow: {kind: exp, tau: 5.0}
fit: {share: none, noise: %s, start: global}
output: {dir: run}
"""


def lines(side, t, rng):
    """Counts of one line of the image after the other (side, bins)."""
    for row in range(side):
        where = np.arange(side) / side
        fast = 0.4 + 0.2 * where[:, None]
        slow = 2.5 + 1.0 * row / side
        share = 0.5 + 0.2 * np.sin(20 * where[:, None])
        mean = share * np.exp(-t / fast) / fast + (1 - share) * np.exp(-t / slow) / slow
        total = rng.uniform(500, 2000, (side, 1))
        yield rng.poisson(mean * total / mean.sum(axis=1, keepdims=True)).astype(np.uint16)


def write(path, side, t):
    rng = np.random.default_rng(0)
    if path.suffix == ".npy":
        out = np.lib.format.open_memmap(path, "w+", np.uint16, (side, side, BINS))
        for row, line in enumerate(lines(side, t, rng)):
            out[row] = line
        return
    if path.suffix == ".nc":
        import h5netcdf

        with h5netcdf.File(path, "w") as file:
            file.dimensions = {"y": side, "x": side, "time": BINS}
            file.create_variable("time", ("time",), data=t)
            out = file.create_variable("counts", ("y", "x", "time"), np.uint16)
            for row, line in enumerate(lines(side, t, rng)):
                out[row] = line
        return
    import dask.array as da

    whole = xr.DataArray(
        da.zeros((side, side, BINS), chunks=(8, side, BINS), dtype=np.uint16),
        dims=("y", "x", "time"),
        coords={"time": t},
        name="counts",
    )
    whole.to_zarr(path, compute=False)
    import zarr

    out = zarr.open(path, mode="r+")["counts"]
    for row, line in enumerate(lines(side, t, rng)):
        out[row] = line


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--format", choices=("nc", "zarr", "npy"), default="nc")
    parser.add_argument("--noise", choices=("normal", "poisson"), default="poisson")
    parser.add_argument("--folder", help="where to write; a temporary folder by default")
    args = parser.parse_args()
    t = (np.arange(BINS) + 0.5) * 12.5 / BINS
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = pathlib.Path(name)
        path = folder / f"cube.{args.format}"
        begun = time.perf_counter()
        write(path, args.side, t)
        print(f"written in {time.perf_counter() - begun:.1f} s: {path.name}", flush=True)
        more = f", dims: [y, x, time], spacing: {12.5 / BINS}, origin: {t[0]}"
        parts = ("data", more) if args.format == "npy" else ("counts", "")
        (folder / "cube.yaml").write_text(CONFIG % (path.name, *parts, args.noise))
        begun = time.perf_counter()
        command = [sys.executable, "-m", "varpro", "run", "cube.yaml"]
        code = subprocess.run(command, cwd=folder).returncode
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        said = json.loads((folder / "run" / "result.json").read_text())
        count = args.side**2
        print(
            f"{count} pixels of {BINS} bins, {os.cpu_count()} cores: {seconds:.0f} s, "
            f"{count / seconds:,.0f} pixels/s with start and files, exit code {code}, "
            f"{said['status']['converged']} converged; largest memory {peak:.2f} GiB"
        )
        if peak > args.gib or code not in (0, 3):
            sys.exit(1)


if __name__ == "__main__":
    main()
