"""
Global analysis
===============

The whole fluorescence of photosystem I: 923 times by 49 wavelengths, which share their lifetimes
and the response of the camera. 6 nonlinear parameters are sought; 245 amplitudes come for free.
"""

# Data: pyglotaran-examples, study_fluorescence (MIT licence); see the head of the file.
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import varpro as vp

folder = pathlib.Path(__file__).parent
table = pd.read_csv(folder / "data/fluorescence.csv", comment="#", index_col=0)
t, y = table.index.to_numpy(), table.to_numpy()
wavelength = table.columns.astype(float).to_numpy()

# %%
# All components are seen through one response, whose centre and width are parameters too. The
# camera sweeps back half a period after each pulse: what still shines then falls on the screen again.

irf = vp.GaussianIRF("irf", center=-84.0, width=1.5, period=13200.0, backsweep=True)
lifetimes = {"s1": 5.0, "s2": 15.0, "s3": 50.0, "s4": 6000.0}
decays = sum(vp.Exp(name, tau=tau, irf=irf) for name, tau in lifetimes.items())
fit = vp.fit(decays + vp.Constant("dark"), t, y, nonnegative=["dark"])
print(fit)

# %%
# The coefficients of a component, one per wavelength, are its decay-associated spectrum. A negative
# one is a rise: there, what another state lost arrives.

fig, ax = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained", width_ratios=[1, 1.15])
zero = fit["irf.center"].value
picture = ax[0, 0].pcolormesh(wavelength, t - zero, y, rasterized=True, cmap="magma")
ax[0, 0].set(xlabel="wavelength (nm)", ylabel="time (ps)", title="counts")
fig.colorbar(picture, ax=ax[0, 0])
most = np.abs(fit.resid).max() / 3
picture = ax[1, 0].pcolormesh(
    wavelength, t - zero, fit.resid, rasterized=True, cmap="RdBu", vmin=-most, vmax=most
)
ax[1, 0].set(xlabel="wavelength (nm)", ylabel="time (ps)", title="residual")
fig.colorbar(picture, ax=ax[1, 0])
for name, color in zip(lifetimes, ("#0072b2", "#009e73", "#d55e00", "#cc79a7"), strict=True):
    one, tau = fit[name], fit[f"{name}.tau"]
    label = " ± ".join(tau.rounded) + " ps"
    ax[0, 1].errorbar(wavelength, one.value, one.stderr, color=color, label=label, ms=3, marker=".")
ax[0, 1].axhline(0, color="k", lw=0.5)
ax[0, 1].set(xlabel="wavelength (nm)", title="decay-associated spectra")
ax[0, 1].legend(frameon=False)
for nm, color in (("690.45", "#0072b2"), ("720.94", "#009e73"), ("741.26", "#d55e00")):
    j = table.columns.get_loc(nm)
    ax[1, 1].plot(t - zero, y[:, j], ".", color=color, ms=2, alpha=0.5)
    ax[1, 1].plot(t - zero, fit.fitted[:, j], color=color, label=f"{nm} nm")
ax[1, 1].set(xlabel="time (ps)", title="traces", xlim=(-10, 80))
ax[1, 1].legend(frameon=False)
plt.show()
