"""
Peaks on a baseline
===================

NIST's problem Gauss1: two peaks on a background that decays, with certified answers to compare
with. Centres and widths are not given, and the amplitudes never are.
"""

# Data: NIST Statistical Reference Datasets, Gauss1 (public domain).
import pathlib

import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

folder = pathlib.Path(__file__).parent
x, y = np.loadtxt(folder / "../configs/data/gauss1.csv", delimiter=",", skiprows=3).T

model = vp.Exp("background") + vp.Gaussian("first") + vp.Gaussian("second")
fit = vp.fit(model, x, y)
print(fit)

# %%
# NIST certifies eleven digits, in other letters: `b5` and `b8` are sqrt(2) times our widths, `b2` is
# the rate of the background.

certified = {
    "background.tau": 1 / 1.0497276517e-02,
    "first.center": 6.7481111276e01,
    "first.width": 2.3129773360e01 / np.sqrt(2),
    "second.center": 1.7899805021e02,
    "second.width": 1.8389389025e01 / np.sqrt(2),
    "background": 9.8778210871e01,
    "first": 1.0048990633e02,
    "second": 7.1994503004e01,
}
for name, value in certified.items():
    digits = -np.log10(abs(fit[name].value / value - 1))
    print(f"{name:15} {fit[name].value:.10g}, certified {value:.10g}: {digits:.1f} digits agree")

# %%
# The area of a Gaussian is a function of its height and width. Its error follows from their joint
# covariance.

for name in ("first", "second"):
    height, width = fit[name].value, fit[f"{name}.width"].value
    cov = fit.covariance_of([name, f"{name}.width"])
    slope = np.sqrt(2 * np.pi) * np.array([width, height])
    print(f"area of {name}: {slope[0] * height:.0f} +/- {np.sqrt(slope @ cov @ slope):.0f}")

# %%
parts = fit.components()
wide = fit.predict(band=0.95, kind="prediction")
fig, (above, below) = plt.subplots(
    2, 1, figsize=(7, 5), sharex=True, height_ratios=[3, 1], layout="constrained"
)
above.fill_between(
    x, wide.lower, wide.upper, color="#56b4e9", alpha=0.3, lw=0, label="95 % of data"
)
above.plot(x, y, ".", color="0.4", ms=3)
above.plot(x, parts["background"], color="#0072b2", ls="--", label="background")
for name, color in (("first", "#009e73"), ("second", "#e69f00")):
    both = parts["background"] + parts[name]
    above.fill_between(x, parts["background"], both, color=color, alpha=0.4, lw=0, label=name)
above.plot(x, fit.fitted, color="#d55e00", label="fit")
above.set(ylabel="y", xlim=(0, 250))
above.legend(frameon=False)
below.plot(x, fit.resid, ".", color="0.4", ms=3)
below.axhline(0, color="k", lw=0.5)
below.set(xlabel="x", ylabel="residual")
plt.show()
