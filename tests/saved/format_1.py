"""Wrote the files in format_1.zip with varpro 0.1.0, when that wrote format 1: FOLDER is an argument."""

import sys

import jax
import numpy as np

import varpro as vp

jax.config.update("jax_enable_x64", True)
T = np.linspace(0.0, 20.0, 24)
rng = np.random.default_rng(7)
NOISE = rng.normal(size=(T.size, 4))
CLEAN = 3.0 * np.exp(-T / 1.0) + 2.0 * np.exp(-T / 6.0) + 0.5
Y = CLEAN + 0.02 * NOISE[:, 0]
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")
PEAKS = vp.Gaussian("a", center=5.0, width=1.0) + vp.Lorentzian("b", center=12.0, fwhm=2.0)
irf = vp.GaussianIRF("irf", center=1.0, width=0.5)
out = sys.argv[1]
T2 = np.linspace(0.0, 20.0, 60)
Y2 = 3.0 * np.exp(-T2) + 2.0 * np.exp(-T2 / 6.0) + 0.5 + 0.02 * rng.normal(size=60)
measured = vp.MeasuredIRF("r", T2, np.exp(-(((T2 - 1) / 0.5) ** 2)))

FITS = {
    "single": lambda: vp.fit(
        MODEL,
        T,
        Y,
        bounds={"slow.tau": (1.0, 5.5)},
        init={"fast.tau": vp.Param(0.5, prior=(1.0, 0.1))},
        order=("fast.tau", "slow.tau"),
        nonnegative=["fast"],
    ),
    "peaks": lambda: vp.fit(PEAKS, T, Y, tie={"b.fwhm": "a.width"}, fix="a.center"),
    "response": lambda: vp.fit(
        vp.Exp("fast", tau=0.5, irf=irf)
        + vp.CoherentArtifact("spike", irf=irf)
        + vp.Constant("bg"),
        T,
        Y,
        max_steps=3,
    ),
    "global": lambda: vp.fit(
        MODEL, {"a": (T, Y), "b": (T[::2], np.stack([Y, 2 * Y], 1)[::2])}, share=["slow.*"]
    ),
    "batch": lambda: vp.fit_many(MODEL, T, (CLEAN[:, None] + 0.02 * NOISE).T),
    "compressed": lambda: vp.fit(
        vp.Exp("d", tau=2.0) + vp.Constant("c"), T, vp.compress(np.outer(Y, np.arange(1.0, 5.0)))
    ),
    "modes": lambda: vp.dmd(
        np.stack([np.cos(np.linspace(0, 10, 64) * 1.3 + i) for i in range(4)])
        + 0.01 * rng.normal(size=(4, 64)),
        np.linspace(0, 10, 64),
        2,
        num_bags=3,
    ),
    "complex": lambda: vp.fit(
        vp.ComplexExp("l", freq=0.21, tau=3.0, receiver=vp.Receiver("rx", phase=0.1)),
        T,
        (1 + 0.5j) * np.exp((2j * np.pi * 0.2 - 0.3) * T) + 0.01 * (NOISE[:, 0] + 1j * NOISE[:, 1]),
    ),
    "bases": lambda: vp.fit(
        vp.BSpline("s", knots=np.linspace(0, 20, 4))
        + vp.Oscillation("o", freq=0.1, tau=30.0)
        + vp.Voigt("v", center=5.0, sigma=1.0, gamma=1.0)
        + vp.PseudoVoigt("pv", center=9.0, fwhm=1.0, eta=0.5)
        + vp.Pearson7("p7", center=14.0, fwhm=1.0, shape=2.0)
        + vp.StretchedExp("st", tau=3.0, beta=0.7)
        + vp.Polynomial("p", degree=1)
        + vp.Offset(vp.Exp("known", tau=9.0)),
        T2,
        Y2,
        max_steps=2,
        ridge=1e-3,
        fix=["p7.*", "pv.*"],
    ),
    "kinetics": lambda: vp.fit(
        vp.Kinetics("k", {"A->B": 0.5, "B->": 0.1}, irf=measured), T2, Y2, max_steps=2
    ),
    "measured": lambda: vp.fit(vp.Exp("e", tau=2.0, irf=measured) + vp.Constant("c"), T2, Y2),
    "poisson": lambda: vp.fit(MODEL, T, np.round(100 * CLEAN), noise="poisson"),
}
for name, make in FITS.items():
    make().save(f"{out}/{name}.nc")
