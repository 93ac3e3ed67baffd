"""
Transient absorption with dispersion
====================================

Femtosecond spectra of a dye, simulated: 145 delays by 41 wavelengths. Time zero moves with the wavelength, for the
white light that probes is chirped: it is a polynomial, whose coefficients are parameters beside the lifetimes.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import erfc

import varpro as vp

rng = np.random.default_rng(0)
delay = np.r_[-1.0:0.4:0.05, 0.4:2.2:0.025, np.geomspace(2.2, 900.0, 45)]
wavelength = np.linspace(430.0, 750.0, 41)


def bands(*shapes):
    return sum(a * np.exp(-0.5 * ((wavelength - c) / w) ** 2) for a, c, w in shapes)


# Bleach and emission are negative, absorption of the excited states is positive.
spectra = (
    bands((-5.0, 530.0, 14.0), (6.0, 640.0, 40.0)),
    bands((-9.0, 490.0, 10.0), (-12.0, 530.0, 14.0), (-8.0, 585.0, 11.0), (11.0, 690.0, 30.0)),
    bands((-3.0, 490.0, 10.0), (-4.0, 530.0, 14.0), (-5.0, 605.0, 14.0), (7.0, 710.0, 25.0)),
)
u = (wavelength - 550.0) / 100.0
t = delay[:, None] - (1.2 + 0.3 * u - 0.08 * u**2)
width = 0.06
pulse = np.exp(-0.5 * (t / width) ** 2)
y = 4.0 * np.exp(-(((wavelength - 500.0) / 80.0) ** 2)) * pulse
for tau, spectrum in zip((2.0, 22.0, 90.0), spectra, strict=True):
    growth = 0.5 * erfc((width / tau - t / width) / np.sqrt(2.0))
    y += spectrum * np.exp(0.5 * (width / tau) ** 2 - t / tau) * growth
y += rng.normal(size=y.shape) * (0.1 + 0.3 * ((wavelength - 430.0) / 320.0) ** 4)
table = pd.DataFrame(y, index=delay, columns=pd.Index(wavelength, name="wavelength"))

# %%
# The noise differs between wavelengths. Before the pulse there is nothing else, which tells how much there is of it.

noise = np.broadcast_to(y[delay < 0.5].std(axis=0, ddof=1), y.shape)

COEFFICIENTS = ("center_dispersion2", "center_dispersion1", "center")

# %%
# Time zero is `center` at 550 nm, and elsewhere a polynomial of (wavelength - 550) / 100. The coherent artifact,
# what the sample does while the pulse lasts, follows it. Starts are read off the map of the data: at every wavelength
# time zero should be right to about one width of the response, or the search ends in another minimum.

irf = vp.GaussianIRF(
    "irf", center=1.2, width=0.08, center_dispersion=[0.28, -0.06], dispersion_center=550.0
)
lifetimes = {"s1": 1.0, "s2": 15.0, "s3": 120.0}
decays = sum(vp.Exp(name, tau=tau, irf=irf) for name, tau in lifetimes.items())
fit = vp.fit(decays + vp.CoherentArtifact("artifact", irf=irf), delay, table, sigma=noise)
print(fit)

# %%
# Data, fit and what is left, on delays that are linear to 3 ps and logarithmic after that. The line is time zero.

zero = fit["irf.center"].value + sum(fit[f"irf.center_dispersion{i}"].value * u**i for i in (1, 2))
fig, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained", sharey=True)
for axis, what, values, top in (
    (axes[0], "data", y, 18.0),
    (axes[1], "fit", fit.fitted, 18.0),
    (axes[2], "residual", fit.resid, 1.2),
):
    image = axis.pcolormesh(wavelength, delay, values, cmap="RdBu_r", vmin=-top, vmax=top)
    axis.plot(wavelength, zero, "k", lw=1, ls="--")
    axis.set_yscale("symlog", linthresh=3.0, linscale=1.5)
    axis.set(ylim=(0, 910), xlabel="wavelength (nm)", title=what)
    fig.colorbar(image, ax=axis, label="mOD")
axes[0].set_ylabel("delay (ps)")

# %%
# The coefficients of a lifetime, one for each wavelength, are its decay-associated spectrum, here with two standard
# errors. On the right the delays of four wavelengths, each counted from its own time zero.

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
colors = ("#0072b2", "#009e73", "#d55e00")
for name, color in zip(lifetimes, colors, strict=True):
    one = fit[name]
    left.plot(wavelength, one.value, color=color, label=f"{fit[name + '.tau'].value:.3g} ps")
    ends = one.value - 2 * one.stderr, one.value + 2 * one.stderr
    left.fill_between(wavelength, *ends, color=color, alpha=0.25, lw=0)
left.axhline(0, color="k", lw=0.5)
left.set(xlabel="wavelength (nm)", ylabel="mOD", title="decay-associated spectra")
left.legend(frameon=False)
for nm, color in zip((490.0, 585.0, 690.0), colors, strict=True):
    j = int(np.argmin(np.abs(wavelength - nm)))
    right.plot(delay - zero[j], y[:, j], ".", color=color, ms=3, alpha=0.4)
    right.plot(delay - zero[j], fit.fitted[:, j], color=color, label=f"{wavelength[j]:.0f} nm")
right.set_xscale("symlog", linthresh=1.0, linscale=1.0)
right.set(xlim=(-1, 900), xlabel="delay after time zero (ps)", ylabel="mOD", title="data and fit")
right.legend(frameon=False)

# %%
# What is left, as singular vectors: were there another component, one would stand out of the noise.

left_over = fit.residual_spectrum(2)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
for axis, x, vectors, label in (
    (axes[0], delay, left_over.left, "delay (ps)"),
    (axes[1], wavelength, left_over.right, "wavelength (nm)"),
):
    axis.plot(x, vectors, label=["first", "second"])
    axis.set(xlabel=label, title="vectors of the two largest singular values")
axes[1].legend(frameon=False)
axes[0].set_xscale("symlog", linthresh=3.0)
plt.show()
