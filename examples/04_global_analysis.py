"""
Global analysis
===============

The whole fluorescence of photosystem I: 923 times by 49 wavelengths, which share their lifetimes
and the response of the camera. 6 nonlinear parameters are sought; 245 amplitudes come for free.
"""

# Data: pyglotaran-examples, study_fluorescence (MIT licence); see the head of the file.
import pathlib

import matplotlib.pyplot as plt
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
# Six of the wavelengths, with what was fitted to all:

labels = vp.Labels(x="time (ps)", y="counts", rhs="wavelength (nm)", at=wavelength)
fit.plot(labels=labels, fig=plt.figure(figsize=(8, 5)))

# %%
# The coefficients of a component, one per wavelength, are its decay-associated spectrum. A negative
# one is a rise: there, what another state lost arrives.

fit.plot_components(labels=labels, fig=plt.figure(figsize=(9, 4)))

# %%
# What is left, everywhere. The stripes at early times are what the camera's response has beside a
# Gaussian.

fit.plot_residuals(panels=["x"], labels=labels, fig=plt.figure(figsize=(8, 4)))
plt.show()
