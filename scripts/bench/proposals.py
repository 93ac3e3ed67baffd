"""How often `varpro new --from` proposes what a file was made of: kinds of data x noise x ways to write them.

    python scripts/bench/proposals.py            # all 60 files, and the rate
    python scripts/bench/proposals.py 0 20       # some of them
    python scripts/bench/proposals.py 0 20 7000  # these with noise of other seeds

Each file is made with a seed, a configuration is written from it in this process, which fits it, and the
kinds of its components are compared with those that made the data.
"""

import dataclasses
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Write = Callable[[Path, np.ndarray, np.ndarray, np.random.Generator], str]


@dataclasses.dataclass(frozen=True)
class Case:
    """A file: what makes its curves, how it is written, and a pattern of the words of a right proposal."""

    name: str
    right: str
    make: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    write: Write
    also: Callable[[str], bool] = lambda text: True


def gauss(x, center, width):
    return np.exp(-0.5 * ((x - center) / width) ** 2)


def lorentz(x, center, width):
    return 1 / (1 + ((x - center) / width) ** 2)


# ---------------------------------------------------------------- what is measured


def curve(formula, x, noise, counts=False):
    """y of a formula with noise in parts of its range, or counted."""

    def make(rng):
        y = formula(x)
        if counts:
            return x, rng.poisson(y).astype(float)
        shape, size = y.shape, noise * np.ptp(y.real)
        if np.iscomplexobj(y):
            return x, y + size * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
        return x, y + size * rng.normal(size=shape)

    return make


T = np.linspace(0, 20, 200)
E = np.linspace(0, 100, 400)
TWO_THETA = np.arange(10.0, 70.0, 0.05)
RAMAN = np.linspace(200, 1800, 800)


def powder(x):
    lines = [(18.2, 900), (27.5, 2400), (33.1, 700), (45.4, 1500), (58.7, 500)]
    return 40 + sum(h * lorentz(x, c, 0.12) for c, h in lines)


def raman(x):
    lines = [(520.7, 1.0, 6.0), (980.0, 0.35, 9.0), (1332.0, 0.6, 5.0)]
    return 0.3 + 2e-4 * (x - 200) + sum(h * lorentz(x, c, w) for c, h, w in lines)


def delays():
    return np.r_[np.arange(-1.0, 2.0, 0.05), np.geomspace(2.0, 500.0, 60)]


def after_response(t, tau, width=0.1, center=0.0):
    from scipy.special import erfc

    s = width / tau
    u = (t - center) / width
    return 0.5 * np.exp(0.5 * s * s - s * u) * erfc((s - u) / np.sqrt(2))


def transient(t):
    wl = np.linspace(450, 700, 12)
    first, second = np.exp(-(((wl - 500) / 40) ** 2)), -0.7 * np.exp(-(((wl - 600) / 50) ** 2))
    return after_response(t, 1.5)[:, None] * first + after_response(t, 60.0)[:, None] * second


def step_of(x):
    from scipy.special import erf

    return 1 + 3 * 0.5 * (1 + erf((x - 42) / (3 * np.sqrt(2))))


def plate(t):
    taus = np.linspace(2.0, 9.0, 8)
    return 100 * (1 - np.exp(-t[:, None] / taus)) + 5


def spectra(t):
    wl = np.linspace(400, 700, 8)
    return np.exp(-t[:, None] / 3.0) * gauss(wl, 520, 40) + 0.6 * np.exp(
        -t[:, None] / 14.0
    ) * gauss(wl, 600, 50)


def fid(t):
    return 2.0 * np.exp(2j * np.pi * 0.9 * t - t / 5) + 1.0 * np.exp(-2j * np.pi * 1.7 * t - t / 3)


def cube(t):
    tau = np.linspace(2.0, 5.0, 12).reshape(3, 4)
    return 200 * np.exp(-t[:, None, None] / tau) + 4


# ---------------------------------------------------------------- how it is written


def rows_of(x, y, separator, form="{:.8g}"):
    table = np.column_stack([x, y])
    return "".join(separator.join(form.format(v) for v in row) + "\n" for row in table)


def plain(x_name="x", y_name="y", separator=","):
    def write(path, x, y, rng):
        names = [y_name] if y.ndim == 1 else [f"{y_name}{i + 1}" for i in range(y.shape[1])]
        path.write_text(separator.join([x_name, *names]) + "\n" + rows_of(x, y, separator))
        return path.name

    return write


def preamble(path, x, y, rng):
    path.write_text(
        "Instrument: FLS-1000\nOperator: A. Person\nDate: 2024-05-02 10:31\n\nX\tY\nns\tcounts\n"
        + rows_of(x, y, "\t")
        + "\nEnd of file\n"
    )
    return path.name


def german(path, x, y, rng):
    text = "Zeit (µs);Signal (mV)\n" + rows_of(x, y, ";").replace(".", ",")
    path.write_bytes(text.encode("latin-1"))
    return path.name


def utf16(path, x, y, rng):
    path.write_bytes(("time\tsignal\n" + rows_of(x, y, "\t")).encode("utf-16"))
    return path.name


def with_index(path, x, y, rng):
    rows = "".join(f"{i},{a:.8g},{b:.8g}\n" for i, (a, b) in enumerate(zip(x, y, strict=True)))
    path.write_text(",time,signal\n" + rows)
    return path.name


def bare(path, x, y, rng):
    path.write_text(rows_of(x, y, "  ", "{:14.6e}").replace("e", "D"))
    return path.name


def with_errors(path, x, y, rng):
    size = np.full(len(x), 0.02 * np.ptp(y))
    path.write_text("# t, y, err\n" + rows_of(x, np.column_stack([y, size]), ", "))
    return path.name


def matrix(corner):
    def write(path, x, y, rng):
        wl = np.linspace(400, 700, y.shape[1])
        head = ",".join([corner, *(f"{w:g}" for w in wl)])
        path.write_text(head + "\n" + rows_of(x, y, ","))
        return path.name

    return write


def wells(path, x, y, rng):
    names = [f"{row}{col}" for row in "AB" for col in range(1, 5)]
    head = ",".join(["Time", "T [°C]", *names])
    path.write_text(head + "\n" + rows_of(x, np.column_stack([0 * x + 37.0, y]), ","))
    return path.name


def parts(path, x, y, rng):
    path.write_text("time,real,imag\n" + rows_of(x, np.column_stack([y.real, y.imag]), ","))
    return path.name


def complex_text(path, x, y, rng):
    rows = "".join(f"{a:.8g}\t({v.real:.8e}{v.imag:+.8e}j)\n" for a, v in zip(x, y, strict=True))
    path.write_text("t\tsignal\n" + rows)
    return path.name


def hdf5(path, x, y, rng):
    import h5py

    path = path.with_suffix(".h5")
    with h5py.File(path, "w") as file:
        file["entry/wavelength"] = np.linspace(400, 700, y.shape[1])
        file["entry/time"] = x
        file["entry/data"] = y
    return path.name


def npz(path, x, y, rng):
    path = path.with_suffix(".npz")
    np.savez(path, time=x, signal=y)
    return path.name


def netcdf(path, x, y, rng):
    import xarray as xr

    path = path.with_suffix(".nc")
    xr.Dataset({"counts": (("time", "row", "column"), y)}, {"time": x}).to_netcdf(
        path, engine="h5netcdf"
    )
    return path.name


# ---------------------------------------------------------------- sixty files


def cases() -> Iterator[Case]:
    def decay(t):
        return 5 * np.exp(-t / 3) + 1

    def two(t):
        return 4 * np.exp(-t / 0.8) + 3 * np.exp(-t / 6) + 0.5

    def growth(t):
        return 0.1 * np.exp(t / 6) + 0.2

    def rise(t):
        return 3 * (1 - np.exp(-t / 4)) + 1

    def stretched(t):
        return 5 * np.exp(-((t / 3) ** 0.6)) + 0.2

    def sine(t):
        return 2 * np.sin(2 * np.pi * 0.31 * t + 0.4) + 1

    def ringing(t):
        return 3 * np.exp(-t / 6) * np.cos(2 * np.pi * 0.7 * t + 1.0)

    def peaks(x):
        return 10 * gauss(x, 30, 4) + 6 * gauss(x, 62, 6) + 1

    def line(x):
        return 0.3 * x + 2

    def parabola(x):
        return 0.05 * (x - 40) ** 2 - 3 * x + 7

    one, poly = r"one decay\b", r"polynomial of degree 2"
    for noise in (0.005, 0.03):
        n = f"{noise:g}"
        yield Case(f"decay, {n}", one, curve(decay, T, noise), plain("t", "y"))
        yield Case(f"decay with index, {n}", one, curve(decay, T, noise), with_index)
        yield Case(f"decay, preamble, {n}", one, curve(decay, T, noise), preamble)
        yield Case(f"decay, German, {n}", one, curve(decay, T, noise), german)
        yield Case(f"rise, UTF-16, {n}", one, curve(rise, T, noise), utf16)
        yield Case(f"growth, {n}", "growth", curve(growth, T, noise), plain("hours", "OD"))
        yield Case(f"sine, {n}", r"one wave\b", curve(sine, T, noise), plain("t", "y"))
        yield Case(f"sine, bare, {n}", r"one wave\b", curve(sine, T, noise), bare)
        yield Case(f"ringing, {n}", "one decaying wave", curve(ringing, T, noise), with_index)
        yield Case(f"two peaks, {n}", "two Gaussian", curve(peaks, E, noise), plain("energy", "y"))
        yield Case(f"two dips, {n}", "two Gaussian", curve(lambda x: -peaks(x), E, noise), german)
        yield Case(f"Raman, {n}", "three Lorentzian", curve(raman, RAMAN, noise / 2), preamble)
        yield Case(f"line, {n}", "straight line", curve(line, T, noise), plain("dose", "response"))
        yield Case(f"parabola, {n}", poly, curve(parabola, E, noise), bare)
        yield Case(f"step, {n}", "a step", curve(step_of, E, noise), plain("voltage", "current"))
        yield Case(f"stretched, {n}", "stretched", curve(stretched, T, noise / 3), plain("t", "y"))
        yield Case(f"two decays, {n}", "two decays", curve(two, T, noise / 5), plain("t", "y"))
        yield Case(
            f"decay with errors, {n}",
            one,
            curve(decay, T, noise),
            with_errors,
            lambda s: "sigma: err" in s,
        )
        yield Case(
            f"NMR, parts, {n}",
            "two decaying waves",
            curve(fid, T, noise),
            parts,
            lambda s: "imag:" in s,
        )
        yield Case(f"NMR, text, {n}", "two decaying waves", curve(fid, T, noise), complex_text)
        yield Case(
            f"TA, corner 0, {n}",
            "two decays after a Gaussian",
            curve(transient, delays(), noise),
            matrix("0"),
        )
        yield Case(
            f"TA, no corner, {n}",
            "two decays after a Gaussian",
            curve(transient, delays(), noise),
            matrix(""),
        )
        yield Case(
            f"spectra, HDF5, {n}",
            "two decays",
            curve(spectra, T, noise / 3),
            hdf5,
            lambda s: "entry/time" in s,
        )
        yield Case(
            f"plate, {n}",
            one,
            curve(plate, T, noise),
            wells,
            lambda s: "share: none" in s and "B4" in s,
        )
        yield Case(f"decay, NPZ, {n}", one, curve(decay, T, noise), npz)
    for height in (1.0, 0.2):
        yield Case(
            f"powder, {height:g}",
            "five Lorentzian",
            curve(lambda x, h=height: h * powder(x), TWO_THETA, 0, True),
            plain("2theta", "counts"),
            poisson,
        )
        yield Case(
            f"photons, {height:g}",
            one,
            curve(lambda t, h=height: h * 900 * np.exp(-t / 3) + 6, T, 0, True),
            plain("t", "counts"),
            poisson,
        )
        yield Case(
            f"cube, {height:g}",
            one,
            curve(lambda t, h=height: h * cube(t), T, 0, True),
            netcdf,
            lambda s: "share: none" in s and "variable: counts" in s,
        )
        yield Case(
            f"photons, two decays, {height:g}",
            "two decays",
            curve(
                lambda t, h=height: h * 10 * (400 * np.exp(-t / 0.8) + 250 * np.exp(-t / 5.0)) + 8,
                T,
                0,
                True,
            ),
            preamble,
        )
        yield Case(
            f"two Lorentzians, {height:g}",
            "two Lorentzian",
            curve(lambda x: 5 * lorentz(x, 30, 3) + 3 * lorentz(x, 48, 4) + 1, E, 0.02 * height),
            bare,
        )


def poisson(text: str) -> bool:
    return "noise: poisson" in text


def proposal(case: Case, folder: Path, seed: int) -> tuple[bool, str]:
    """Whether the proposal for a file is right, and what it says."""
    import varpro as vp
    from varpro.app.propose.columns import Asked
    from varpro.app.propose.propose import write_proposal

    rng = np.random.default_rng(seed)
    x, y = case.make(rng)
    source = folder / case.write(folder / "data.txt", x, y, rng)
    config = folder / "fit.yaml"
    try:
        said = write_proposal(config, source, True, Asked())
    except vp.InputError as error:
        return False, str(error)
    words = next(line for line in said if "AICc chooses" in line)
    right = re.search(case.right, words.split(";")[0]) and case.also(
        config.read_text(encoding="utf-8")
    )
    return bool(right), words


def main() -> None:
    if {"-h", "--help"} & {*sys.argv}:
        print(__doc__)
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    first, last = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (0, 10**6)
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    good = count = 0
    for i, case in enumerate(cases()):
        if not first <= i < last:
            continue
        with tempfile.TemporaryDirectory() as folder:
            right, said = proposal(case, Path(folder), seed + i)
        good, count = good + right, count + 1
        print(f"{i:3} {'right' if right else 'WRONG'}  {case.name:28} {said[:150]}", flush=True)
    print(f"{good} of {count} right")


if __name__ == "__main__":
    main()
