"""
An image of lifetimes
=====================

Every pixel of a fluorescence-lifetime image has a decay of its own, with few photons. All are fitted
one by one, by the likelihood of Poisson counts, in one call.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

# Simulated: two kinds of cells in a dim background; 128 time bins of 0.1 ns.
rng = np.random.default_rng(0)
size, t = 48, 0.1 * np.arange(128)
v, u = np.mgrid[:size, :size] / size
photons, tau = np.full((size, size), 250.0), np.full((size, size), 3.4)
for _ in range(14):
    at, radius, kind = rng.uniform(0, 1, 2), rng.uniform(0.06, 0.16), rng.choice([1.1, 2.2])
    inside = (u - at[0]) ** 2 + (v - at[1]) ** 2 < radius**2
    photons[inside], tau[inside] = rng.uniform(300, 1500), kind
clean = np.exp(-t / tau[..., None])
counts = rng.poisson(photons[..., None] * clean / clean.sum(axis=-1, keepdims=True) + 0.05)
print(counts.shape, "counts,", int(counts.sum(axis=-1).mean()), "photons per pixel")

# %%
# The model of one pixel. `vp.fit_many` takes any axes before the samples.

model = vp.Exp("cell", tau=vp.Param(2.0, lower=0.05, upper=20.0)) + vp.Constant("dark")
begun = time.perf_counter()
fit = vp.fit_many(model, t, counts.astype(float), noise="poisson")
print(f"{fit.status.size} pixels in {time.perf_counter() - begun:.1f} s, compilation included")
print(fit)

# %%
# Each pixel has standard errors and a status; one that fails harms no other. The spread of what is
# found for one kind of cell, over its standard error, is one where those errors are right.

found, error = fit["cell.tau"].value, fit["cell.tau"].stderr
for kind in (1.1, 2.2, 3.4):
    these = (tau == kind) & fit.success & (error < found)
    pull = (found[these] - kind) / error[these]
    print(f"{kind} ns: {np.median(found[these]):.3f}, spread over error {pull.std():.2f}")

# %%
fit.plot_maps(["cell", "cell.tau"], fig=plt.figure(figsize=(9, 7)))
plt.show()
