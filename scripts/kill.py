"""Kill runs of many curves at random moments, resume them, and see that nothing is lost.

    python scripts/kill.py [--times N] [--pixels N] [--seed S]

Each round begins a run of a synthetic image in a process of its own, ends it with SIGKILL at a random
moment, and resumes it, now and then killing that too. The maps must be those of a run that was left
alone, bit by bit, and no block may be computed twice but those in flight when the process died: a
block's file, once there, must never be written again.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import xarray as xr

import varpro as vp

CONFIG = """\
data: {path: cube.nc, variable: counts, x: time}
model:
  fast: {kind: exp, tau: 1.0}
  slow: {kind: exp, tau: 5.0}
fit: {share: none, noise: poisson, block: 512}
output: {dir: %s}
"""


def write_cube(folder, pixels, seed):
    rng = np.random.default_rng(seed)
    side = int(pixels**0.5)
    t = (np.arange(128) + 0.5) * 0.1
    fast, slow = rng.uniform(0.4, 0.6, (side, side, 1)), rng.uniform(2.5, 3.5, (side, side, 1))
    mean = 30 * np.exp(-t / fast) + 15 * np.exp(-t / slow)
    counts = rng.poisson(mean).astype(np.uint16)
    coords = {"time": ("time", t, {"units": "ns"})}
    array = xr.DataArray(counts, dims=("y", "x", "time"), coords=coords, name="counts")
    array.to_netcdf(folder / "cube.nc", engine="h5netcdf")


def start(folder, *words):
    command = [sys.executable, "-m", "varpro", *words, "-q"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def written(run):
    """Every finished block with the number of its file and the time of its last change."""
    found = {}
    for path in run.glob("blocks/*.npz"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue  # the run ended meanwhile
        found[path.name] = (stat.st_ino, stat.st_mtime_ns)
    return found


def watch(process, run, seen, enough):
    """Follow a process until so many blocks are finished; returns how often one was written that was
    there already."""
    twice = 0
    while process.poll() is None:
        now = written(run)
        for name, mark in now.items():
            twice += name in seen and seen[name] != mark
            seen[name] = mark
        if len(now) >= enough:
            break
        time.sleep(0.002)
    return twice


def finished(run):
    try:
        return json.loads((run / "status.json").read_text())["state"] == "finished"
    except FileNotFoundError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--pixels", type=int, default=16384)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_cube(folder, args.pixels, args.seed)
        (folder / "whole.yaml").write_text(CONFIG % "whole")
        (folder / "run.yaml").write_text(CONFIG % "run")
        run, blocks = folder / "run", 0
        start(folder, "run", "whole.yaml").wait()  # compiles
        begun = time.monotonic()
        code = start(folder, "run", "whole.yaml", "--overwrite").wait()
        lasts = time.monotonic() - begun
        whole = vp.load(folder / "whole" / "result.nc")
        blocks = json.loads((folder / "whole" / "status.json").read_text())["blocks"]
        print(f"{args.pixels} pixels, {blocks} blocks, {lasts:.1f} s a run, exit code {code}")
        kills = repeated = lost = 0
        kept = []
        for number in range(args.times):
            shutil.rmtree(run, ignore_errors=True)
            seen = {}
            words = ("run", "run.yaml")
            dead = 1 + (random.random() < 0.3)
            while True:
                process = start(folder, *words)
                # At a random moment: between any two blocks, or before the first.
                enough = random.randrange(blocks) if dead else 10**9
                repeated += watch(process, run, seen, enough)
                time.sleep(random.uniform(0.0, 2.0 * lasts / blocks) if dead else 0.0)
                if process.poll() is not None:
                    break
                dead -= 1
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                before = written(run)
                lost += not finished(run) and any(name not in before for name in seen)
                kept.append(len(before))
                words = ("resume", "run") if (run / "status.json").exists() else ("run", "run.yaml")
                if words[0] == "run":
                    shutil.rmtree(run, ignore_errors=True)  # it died before there was a run
                elif finished(run):
                    break
            message = process.stderr.read().decode().strip().splitlines()
            same = (run / "result.nc").exists() and vp.load(run / "result.nc") == whole
            print(
                f"{number + 1:3}: kept {kept[-1] if kept else 0:3} blocks, same {same}",
                *message[-1:],
            )
            if not same:
                sys.exit("The maps differ from those of a run that was left alone.")
        share = np.mean(kept) / blocks if kept else 0.0
        print(
            f"{kills} kills in {args.times} runs: every result the same, {lost} finished blocks lost, "
            f"{repeated} computed twice; {100 * share:.0f} % were finished when killed, on average"
        )
        if lost or repeated:
            sys.exit(1)


if __name__ == "__main__":
    main()
