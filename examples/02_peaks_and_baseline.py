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
# covariance; every peak knows its area, and its full width at half maximum.

print(
    fit.derive(
        {
            "first, area": "first.area",
            "second, area": "second.area",
            "ratio": "first.area / second.area",
        }
    )
)

# %%
fit.plot(fig=plt.figure(figsize=(7, 5)))
plt.show()
