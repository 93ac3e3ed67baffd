"""
Which model?
============

A peak that is neither a Gaussian nor a Lorentzian. Criteria weigh how well a model describes the
data against how many parameters it takes.
"""

# Data: lmfit-py, examples/test_peak.dat (BSD licence).
import pathlib

import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

folder = pathlib.Path(__file__).parent
x, y = np.loadtxt(folder / "data/peak.csv", delimiter=",", skiprows=2).T

base = vp.Constant("base")
core, wings = vp.Gaussian("core"), vp.Lorentzian("wings")
fits = {
    "Gaussian": vp.fit(core + base, x, y),
    "Lorentzian": vp.fit(wings + base, x, y),
    "Voigt": vp.fit(vp.Voigt("peak") + base, x, y),
    "pseudo-Voigt": vp.fit(vp.PseudoVoigt("peak") + base, x, y),
    "sum, one centre": vp.fit(core + wings + base, x, y, tie={"wings.center": "core.center"}),
    "sum, two centres": vp.fit(core + wings + base, x, y),
}
comparison = vp.compare(*fits.values(), names=list(fits))
print(comparison)

# %%
# What lies between the two is far better than either, and which form it takes the data hardly tell. A
# second centre adds nothing: its F test and its criteria say so. Of a model that misses something, the
# residuals say so as well.

for name, fit in fits.items():
    print(f"{name}: ", *(str(finding) for finding in fit.diagnostics[-1:]))

# %%
fig, axes = plt.subplots(2, 3, figsize=(11, 5.5), layout="constrained", height_ratios=[2, 1])
for (name, fit), (above, below) in zip(list(fits.items())[:3], axes.T, strict=True):
    above.plot(x, y, ".", color="0.6", ms=3)
    above.plot(x, fit.fitted, color="#d55e00")
    for part in fit.components().values():
        above.plot(x, part, color="#0072b2", lw=0.8)
    weight = comparison.weights[comparison.names.index(name)]
    above.set(title=f"{name}: weight {weight:.1g}", yscale="symlog", ylim=(-1, 14))
    below.plot(x, fit.resid, ".", color="0.4", ms=3)
    below.axhline(0, color="k", lw=0.5)
    below.set(ylim=(-1.2, 1.2), xlabel="x")
axes[1, 0].set_ylabel("residual")
plt.show()
