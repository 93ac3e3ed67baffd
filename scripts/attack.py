"""Attack runs, and count what comes of it: nothing may be lost, nothing mixed, and every end is a sentence.

    python scripts/attack.py [--seed S] [--kills N] [--damage N] [--disk N] [--data N] [--clusters N]

- **kills**: a run of an image or of one curve, new or over an earlier one, ends by SIGKILL, SIGTERM or
  SIGINT at a random moment, and again while it is resumed.
- **damage**: a run is killed half way, and one of its files is damaged: a byte flipped, cut short,
  emptied, replaced by another or by noise, deleted, or one planted that a killed writer leaves.
- **disk**: no file may grow past a random size (RLIMIT_FSIZE), or the disk is a small tmpfs where the
  caller may mount one.
- **data**: the data are rewritten in place, replaced, cut short or touched while a run reads them.
- **clusters**: workers of a dask cluster on this machine are killed, one, all, or again and again.

After each attack the run is brought to its end as a user would: `varpro resume`, or `varpro run`. An
attack is *survived* if that gives the same bits as a run that was left alone. A finished block that is
computed again, or an earlier run that is gone before the new one is whole, is *lost*. A result that is
neither that of the old data nor of the new is *mixed*. Any exit code but 0, 1, 2, 3, 130, 143 and the
signal that was sent is *wrong*, and so is a refusal in more than one line, or a run that hangs.

What is done is drawn from the seed; when it hits is up to the machine. Runs are forked from this process,
which has imported everything and started nothing; every fifth is a process of its own, so that imports
are hit, too.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # a process with threads cannot be forked

import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402

IMAGE = """\
data: {path: %s, variable: counts, x: time}
model:
  fast: {kind: exp, tau: 1.0}
  bg: {kind: constant}
fit: {share: none, block: 8}
compute: {workers: 2%s}
output: {dir: %s, report: none, plots: []}
"""
CURVE = """\
data: {path: curve.csv, x: t, y: y}
model:
  decay: {kind: exp, tau: 1.0}
  bg: {kind: constant}
output: {dir: curve, plots: [fit]}
"""
SIDE, SAMPLES = 8, 32
# Seconds after which a run hangs that should have ended in a few.
HANGS = 240.0
# Exit codes that say what happened.
KNOWN = {0, 1, 2, 3, 130, 143}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KINDS = ("kills", "damage", "disk", "data", "clusters")


class Wrong(Exception):
    """An attack that was not survived: `kind` is lost, mixed or wrong."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def cube(seed):
    rng = np.random.default_rng(seed)
    t = (np.arange(SAMPLES) + 0.5) * 0.1
    tau = rng.uniform(0.8, 1.6, (SIDE, SIDE, 1))
    counts = rng.poisson(60 * np.exp(-t / tau) + 4).astype(np.uint16)
    coords = {"time": ("time", t, {"units": "ns"})}
    return xr.DataArray(counts, dims=("y", "x", "time"), coords=coords, name="counts")


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class Ground:
    """A folder with data and configurations, and what runs that are left alone make of them."""

    def __init__(self, folder):
        self.folder, self.running = folder, set()
        self.codes, self.messages = collections.Counter(), collections.Counter()
        for name, seed in (("old.nc", 0), ("new.nc", 1)):
            cube(seed).to_netcdf(folder / name, engine="h5netcdf")
        t = np.linspace(0.0, 5.0, 40)
        y = 3 * np.exp(-t / 1.3) + 0.5 + 0.02 * np.cos(37 * t)
        np.savetxt(
            folder / "curve.csv", np.c_[t, y], delimiter=",", header="t,y", comments="", fmt="%.12g"
        )
        (folder / "curve.yaml").write_text(CURVE)
        (folder / "far.yaml").write_text(IMAGE % ("old.nc", ", engine: dask", "run"))
        self.whole = {}
        for name in ("old", "new"):
            (folder / f"{name}.yaml").write_text(IMAGE % (f"{name}.nc", "", f"whole-{name}"))
            self.made("run", f"{name}.yaml")
            self.whole[name] = self.image(f"whole-{name}")
        (folder / "run.yaml").write_text(IMAGE % ("data.nc", "", "run"))
        self.made("run", "curve.yaml")
        self.curve = digest(folder / "curve" / "result.json")
        self.blocks = json.loads((folder / "whole-old" / "status.json").read_text())["blocks"]
        # How long a run takes, once its programs are there.
        begun = time.monotonic()
        self.made("run", "old.yaml", "--overwrite")
        self.lasts = time.monotonic() - begun
        assert self.image("whole-old") == self.whole["old"], "two runs differ"
        self.fresh()

    def made(self, *words):
        """A run that must go well."""
        code, text = self.ended(self.begin(*words))
        if code not in (0, 3):
            raise Wrong("wrong", f"{' '.join(words)}, left alone: {text}")

    def fresh(self, data="old.nc"):
        """As before any attack, the earlier run of the curve included."""
        for pid in [*self.running]:  # what an attack that was not survived left
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.running.discard(pid)
        for path in (*self.folder.glob("run"), *self.folder.glob(".*")):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copyfile(self.folder / data, self.folder / "data.nc")
        if not self.same_curve():
            shutil.rmtree(self.folder / "curve", ignore_errors=True)
            self.made("run", "curve.yaml")

    def image(self, name="run"):
        """The digest of the maps in a run folder; None where there are none."""
        path = self.folder / name / "result.nc"
        return digest(path) if path.exists() else None

    def same_curve(self):
        path = self.folder / "curve" / "result.json"
        return path.exists() and digest(path) == self.curve

    def written(self):
        """Every finished block with what tells whether it was written again."""
        found = {}
        with contextlib.suppress(FileNotFoundError):  # the run has ended, or begins
            for entry in os.scandir(self.folder / "run" / "blocks"):
                if entry.name[0].isdigit():
                    status = entry.stat()
                    found[entry.name] = (status.st_ino, status.st_mtime_ns)
        return found

    def begin(self, *words, most=None, apart=False):
        """A run as a process: its number, and the end of a pipe from which what it says is read."""
        said, out = os.pipe()  # what it says is short, and no limit on files holds for it
        words = (*words, "-q") if words[0] in ("run", "resume") else words
        child = 0 if apart else os.fork()
        if apart:
            process = subprocess.Popen(
                [sys.executable, "-m", "varpro", *words],
                **{"stdout": out, "stderr": out, "cwd": self.folder, "start_new_session": True},
                preexec_fn=lambda: _limited(most),
            )
            child = process.pid
        if child:
            os.close(out)
            self.running.add(child)
            return child, said
        code = 1
        try:
            os.setsid()
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            os.chdir(self.folder)
            _limited(most)
            sys.argv = ["varpro", *map(str, words)]
            from varpro.app.entry import main

            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        except KeyboardInterrupt:  # before varpro had begun to listen
            code = 130
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 99
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self, process, sent=None):
        """Wait for a run; returns its exit code and what it said."""
        pid, said = process
        status, until = None, time.monotonic() + HANGS
        while status is None:
            ended, found = os.waitpid(pid, os.WNOHANG)
            status = found if ended else None
            if not ended and time.monotonic() > until:
                raise Wrong("wrong", f"it hangs: process {pid}")
            time.sleep(0.0 if ended else 0.005)
        self.running.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        self.codes[code] += 1
        with open(said, errors="replace") as stream:
            text = stream.read()
        if code not in KNOWN and not (sent and code == -sent):
            raise Wrong("wrong", f"exit code {code}: {text[-2000:]}")
        if "Traceback" in text and not sent:
            raise Wrong("wrong", f"a traceback: {text[-2000:]}")
        if code == 2 and text.count("\n") != 1:
            raise Wrong("wrong", f"a refusal in more than a line: {text[-2000:]}")
        if code == 2:
            self.messages[_shape_of(text)] += 1
        return code, text

    def to_the_end(self):
        """Bring the run of the image to its end as a user would."""
        for _ in range(4):
            if self.image() and not self.written() and _state(self.folder / "run") == "finished":
                return
            code, text = self.ended(self.begin("resume", "run"))
            if code == 2:
                words = ("run", "run.yaml", "--overwrite")
                code, text = self.ended(self.begin(*words))
        raise Wrong("lost", f"no end was reached: {code} {text}")

    def check(self, *allowed):
        found = self.image()
        if found not in [self.whole[name] for name in allowed]:
            raise Wrong("mixed", f"the maps are not those of {' or '.join(allowed)}")


def _limited(most):
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _state(run):
    try:
        return json.loads((run / "status.json").read_text())["state"]
    except (OSError, ValueError, KeyError):
        return None


def _shape_of(text):
    """A message without its paths and numbers, to be counted."""
    words = [
        "..." if "/" in word or any(c.isdigit() for c in word) else word for word in text.split()
    ]
    return " ".join(words)[:150]


def _until(ground, process, enough=None, seconds=None, again=None):
    """Follow a run until so many blocks are there, or for so long; whether it is still running. A block
    that is written again is lost work."""
    seen = {} if again is None else again
    begun = time.monotonic()
    while os.waitid(os.P_PID, process[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for name, mark in ground.written().items():
            if seen.setdefault(name, mark) != mark:
                raise Wrong("lost", f"block {name} was computed twice")
        if enough is not None and len(seen) >= enough:
            return True
        if seconds is not None and time.monotonic() - begun > seconds:
            return True
        time.sleep(0.002)
    return False


def _signalled(ground, process, number):
    with_children = number == signal.SIGKILL
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if with_children else os.kill)(process[0], number)
    return ground.ended(process, number)


def kills(ground, rng):
    what = rng.choice(["image", "image", "image over an earlier run", "curve over an earlier run"])
    apart = rng.random() < 0.2
    late = 2.0 if apart else 0.0  # imports
    moment = rng.uniform(0.0, 1.3 * ground.lasts + late)
    number = rng.choice(SIGNALS)
    if what.startswith("curve"):
        process = ground.begin("run", "curve.yaml", "--overwrite", apart=apart)
        _until(ground, process, seconds=moment)
        _signalled(ground, process, number)
        if not ground.same_curve():
            # A kill between two renames leaves the earlier one aside; the next run puts it back.
            ground.ended(ground.begin("run", "curve.yaml"))
        if not ground.same_curve():
            raise Wrong("lost", "the earlier run of the curve is gone")
        return
    words = ("run", "run.yaml")
    if "over" in what:
        ground.ended(ground.begin(*words))
        words = (*words, "--overwrite")
    seen, deaths = {}, rng.randint(1, 3)
    for death in range(deaths + 1):
        process = ground.begin(*words, apart=apart)
        if death == deaths:
            _until(ground, process, again=seen)
            code, text = ground.ended(process)
            break
        running = _until(ground, process, seconds=moment, again=seen)
        before = ground.written()
        code, text = _signalled(ground, process, number)
        if not running:
            break
        kept = ground.written()
        finished = _state(ground.folder / "run") == "finished"
        if not finished and ground.image() is None and set(before) - set(kept):
            raise Wrong("lost", f"blocks are gone: {sorted(set(before) - set(kept))}")
        if ground.written() or _state(ground.folder / "run") in ("running", "interrupted"):
            words = ("resume", "run")
        moment, number = rng.uniform(0.0, 1.2 * ground.lasts), rng.choice(SIGNALS)
        if words[0] == "run":
            seen = {}
    if code == 2 and "finished" not in text and "earlier run" not in text:
        raise Wrong("lost", f"it cannot go on: {text}")
    ground.to_the_end()
    ground.check("old")


def _half(ground, rng):
    """A run of the image that was killed when some of its blocks were there."""
    process = ground.begin("run", "run.yaml")
    _until(ground, process, enough=rng.randint(1, max(ground.blocks - 2, 1)))
    _signalled(ground, process, signal.SIGKILL)


def damage(ground, rng):
    _half(ground, rng)
    run = ground.folder / "run"
    files = sorted(p for p in run.rglob("*") if p.is_file())
    if not files or not ground.written():
        ground.to_the_end()
        return ground.check("old")
    blocks = [p for p in files if p.suffix == ".npz"]
    others = [p for p in files if p.suffix != ".npz"]
    victim = rng.choice(others if others and rng.random() < 0.3 else blocks or files)
    raw = victim.read_bytes()
    how = rng.choice(["flip", "flip", "cut", "empty", "other", "noise", "delete", "plant"])
    if how == "flip" and raw:
        at = rng.randrange(len(raw))
        victim.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :])
    elif how == "cut":
        victim.write_bytes(raw[: rng.randrange(max(len(raw), 1))])
    elif how == "empty":
        victim.write_bytes(b"")
    elif how == "other":
        victim.write_bytes(rng.choice(files).read_bytes())
    elif how == "noise":
        victim.write_bytes(rng.randbytes(rng.randrange(4000)))
    elif how == "delete":
        victim.unlink()
    else:
        for name in (".result.nc.tmp-1", ".status.tmp-1", ".result.json", "blocks/.000001.tmp-ab"):
            (run / name).write_bytes(rng.randbytes(100))
    code, text = ground.ended(ground.begin("resume", "run"))
    if code in (0, 3):
        return ground.check("old")
    if code == 2 and victim.name not in text and "run" not in text:
        raise Wrong("wrong", f"{how} of {victim.name} is told as: {text}")
    if victim.suffix == ".npz" and victim.exists():
        victim.unlink()
    ground.to_the_end()
    ground.check("old")


def disk(ground, rng):
    if os.geteuid() == 0 and rng.random() < 0.3:
        return _small_disk(ground, rng)
    most = int(10 ** rng.uniform(1.5, 5.5))
    if rng.random() < 0.3:
        code, _ = ground.ended(ground.begin("run", "curve.yaml", "--overwrite", most=most))
        if not ground.same_curve():
            raise Wrong("lost", f"at most {most} bytes: the earlier run of the curve is gone")
        return
    code, _ = ground.ended(ground.begin("run", "run.yaml", most=most))
    kept = ground.written()
    if code in (0, 3):
        return ground.check("old")
    if code != 2:
        raise Wrong("wrong", f"at most {most} bytes: exit code {code}")
    if kept:
        process = ground.begin("resume", "run")
        _until(ground, process, again=dict(kept))
        ground.ended(process)
    else:
        ground.ended(ground.begin("run", "run.yaml", "--overwrite"))
    ground.to_the_end()
    ground.check("old")


def _small_disk(ground, rng):
    """A run on a disk of a few kilobytes, which may get more room."""
    place = ground.folder.parent / "disk"
    place.mkdir(exist_ok=True)
    size = int(10 ** rng.uniform(4.0, 5.6))
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(options, capture_output=True).returncode:
        return None
    try:
        target = place / "run"
        code, text = ground.ended(ground.begin("run", "run.yaml", "--out", target))
        if code == 2:
            subprocess.run(["mount", "-o", "remount,size=50m", str(place)], check=True)
            words = ("resume", target) if (target / "blocks").exists() else None
            words = words or ("run", "run.yaml", "--out", target, "--overwrite")
            code, text = ground.ended(ground.begin(*words))
        if code not in (0, 3) or digest(target / "result.nc") != ground.whole["old"]:
            raise Wrong("mixed" if code in (0, 3) else "lost", f"on {size} bytes: {code} {text}")
        if any(p.name.startswith(".run") for p in place.iterdir()):
            raise Wrong("wrong", f"on {size} bytes: left {sorted(p.name for p in place.iterdir())}")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def data(ground, rng):
    path, other = ground.folder / "data.nc", (ground.folder / "new.nc").read_bytes()
    process = ground.begin("run", "run.yaml")
    if rng.random() < 0.5:
        _until(ground, process, seconds=rng.uniform(0.0, 1.2 * ground.lasts))
    else:
        _until(ground, process, enough=rng.randint(1, ground.blocks))
    how = rng.choice(["in place", "replace", "cut", "part", "touch", "delete", "back"])
    old = path.read_bytes()
    if how == "in place":
        with path.open("r+b") as file:
            file.write(other)
            file.truncate()
    elif how == "replace":
        (ground.folder / "data.tmp").write_bytes(other)
        (ground.folder / "data.tmp").replace(path)
    elif how == "cut":
        os.truncate(path, rng.randrange(len(other)))
    elif how == "part":
        at = rng.randrange(len(old) // 2)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(other[at : at + rng.randrange(1, len(other) // 2)])
    elif how == "touch":
        os.utime(path)
    elif how == "back":  # for a moment the others, and then as before
        path.write_bytes(other)
        time.sleep(rng.uniform(0.0, 0.3 * ground.lasts))
        path.write_bytes(old)
    else:
        path.unlink()
    code, text = ground.ended(process)
    if code in (0, 3):
        ground.check("old", "new")
        which = "old" if ground.image() == ground.whole["old"] else "new"
        said = json.loads((ground.folder / "run" / "result.json").read_text())["inputs"]["data"]
        if said["sha256"] != digest(ground.folder / f"{which}.nc"):
            raise Wrong("mixed", f"{how}: the digest in the result is not that of what was fitted")
        return
    if code != 2:
        raise Wrong("wrong", f"{how}: exit code {code}: {text}")
    # Nothing of the old data may be used with the new.
    shutil.copyfile(ground.folder / "new.nc", path)
    code, text = ground.ended(ground.begin("resume", "run"))
    if code != 2:
        ground.check("new")
    ground.ended(ground.begin("run", "run.yaml", "--overwrite"))
    ground.check("new")


def _workers_of(pid):
    """The processes below one, which is a run with a cluster of its own, that do the work."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            words = path.with_name("cmdline").read_text()
        except OSError:
            continue
        if int(fields[3]) == pid and "spawn_main" in words:  # of its session
            found.append(int(path.parent.name))
    return found


def clusters(ground, rng):
    how = rng.choice(["one", "all", "often", "the run"])
    process = ground.begin("run", "far.yaml", apart=True)
    _until(ground, process, enough=rng.randint(0, ground.blocks - 2))
    strikes = rng.randint(2, 6) if how == "often" else 1
    for _ in range(strikes):
        workers = _workers_of(process[0])
        if how == "the run":
            os.kill(process[0], signal.SIGKILL)
        for pid in rng.sample(workers, min(len(workers), 1 if how == "one" else 9)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not _until(ground, process, seconds=rng.uniform(0.5, 4.0)):
            break
    code, text = ground.ended(process, signal.SIGKILL)
    if code in (0, 3):
        return ground.check("old")
    if code not in (2, -signal.SIGKILL):
        raise Wrong("wrong", f"{how}: exit code {code}: {text}")
    for pid in _workers_of(process[0]):
        os.kill(pid, signal.SIGKILL)
    kept = ground.written()
    if _state(ground.folder / "run") == "finished":
        return ground.check("old")
    if not kept and code != 2:
        return None
    text = (ground.folder / "run" / "config.yaml").read_text()
    (ground.folder / "run" / "config.yaml").write_text(
        text.replace("engine: dask", "engine: local")
    )
    process = ground.begin("resume", "run")
    _until(ground, process, again=dict(kept))
    ground.ended(process)
    ground.check("old")
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    for kind, count in zip(KINDS, (60, 60, 60, 60, 6), strict=True):
        parser.add_argument(f"--{kind}", type=int, default=count, metavar="N")
    parser.add_argument(
        "--verbose", action="store_true", help="Show every attack and every refusal."
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name, "ground")
        folder.mkdir()
        os.environ["XDG_CACHE_HOME"] = str(pathlib.Path(name, "cache"))
        import matplotlib.backends.backend_agg  # noqa: F401  (so that forks need not)

        import varpro.app.cli
        import varpro.app.runs.jobs  # noqa: F401

        ground = Ground(folder)
        print(f"{ground.blocks} blocks, {ground.lasts:.1f} s a run")
        total = collections.Counter()
        for kind in KINDS:
            begun, found = time.monotonic(), collections.Counter()
            for number in range(getattr(args, kind)):
                found["tried"] += 1
                ground.fresh()
                try:
                    globals()[kind](ground, random.Random(f"{args.seed} {kind} {number}"))
                    found["survived"] += 1
                except Wrong as error:
                    found[error.kind] += 1
                    print(f"{kind} {number}: {error.kind}: {error}")
                if args.verbose:
                    print(f"{kind} {number}: {dict(found)}", flush=True)
            total += found
            _show(kind, found, time.monotonic() - begun)
        _show("all", total, None)
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(ground.codes.items()))
        print(f"exit codes {codes}")
        if args.verbose:
            for message, count in ground.messages.most_common():
                print(f"{count:5} {message}")
        sys.exit(total["survived"] < total["tried"])


def _show(kind, found, seconds):
    counts = ", ".join(
        f"{found[key]} {key}" for key in ("tried", "survived", "lost", "mixed", "wrong")
    )
    print(f"{kind}: {counts}" + ("" if seconds is None else f" ({seconds:.0f} s)"), flush=True)


if __name__ == "__main__":
    main()
