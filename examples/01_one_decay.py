"""
One decay
=========

Fluorescence of photosystem I at one wavelength, as a streak camera saw it: two lifetimes and what
stays. No starts are given; they are found in the data.
"""

# Data: pyglotaran-examples, study_fluorescence (MIT licence); see the head of the file.
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import varpro as vp

folder = pathlib.Path(__file__).parent
table = pd.read_csv(folder / "data/fluorescence.csv", comment="#", index_col=0)
late = table.index > -78.0  # the exciting pulse came at -84.3 ps and is over
t = table.index.to_numpy()[late] + 84.3
y = table["690.45"].to_numpy()[late]

# %%
# The model is a sum of components. Each has a coefficient, its amplitude, which needs no start.

model = vp.Exp("fast") + vp.Exp("slow") + vp.Constant("rest")
fit = vp.fit(model, t, y)
print(fit)

# %%
# The findings are right: a pixel of this camera sees what its neighbours see, so neighbouring
# residuals are alike, and standard errors that take them for independent are too small. One way out
# is to bring as many samples together as are alike.

group = 12
fewer = t.size // group * group
coarse = vp.fit(model, *(a[:fewer].reshape(-1, group).mean(axis=1) for a in (t, y)))
for name in ("fast.tau", "slow.tau"):
    print(
        f"{name}: {' +/- '.join(fit[name].rounded)} ps, of means {coarse[name].value:.2f} +/- ",
        end="",
    )
    print(f"{coarse[name].stderr:.2f} ps")

# %%
# Components, the band within which the curve lies with 95 % confidence, and residuals:

band = fit.predict(band=0.95)
parts = fit.components()
fig, (above, below) = plt.subplots(
    2, 1, figsize=(7, 5), sharex=True, height_ratios=[3, 1], layout="constrained"
)
above.plot(t, y, ".", color="0.6", ms=3, label="counts at 690 nm")
floor = np.zeros_like(t)
for name, color in (("rest", "#0072b2"), ("slow", "#009e73"), ("fast", "#e69f00")):
    above.fill_between(t, floor, floor + parts[name], color=color, alpha=0.35, lw=0, label=name)
    floor = floor + parts[name]
above.plot(t, band.value, color="#d55e00", label="fit")
above.fill_between(t, band.lower, band.upper, color="#d55e00", alpha=0.3, lw=0)
above.set(ylabel="counts", ylim=(0, None), xlim=(0, t[-1]))
above.legend(frameon=False)
below.plot(t, fit.resid, color="0.4", lw=0.7)
below.axhline(0, color="k", lw=0.5)
below.set(xlabel="time after the pulse (ps)", ylabel="residual")
plt.show()
