"""
A plate of curves
=================

Ninety-six wells, an enzyme in each, and an inhibitor whose concentration rises from column to column. The reader
comes by one well after the other, so that each has times of its own; some wells are empty, and in some there are
bubbles. Every well has a rate of its own, and the rates of all say how strongly the inhibitor binds.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

# Simulated: 8 rows of 12 wells, 40 readings of each, one every 45 s, 0.4 s from well to well.
rng = np.random.default_rng(7)
rows, readings = "ABCDEFGH", 40
inhibitor = np.r_[0.0, 0.5 * 1.6 ** np.arange(11)]  # micromolar, by column
minutes = 0.75 * np.arange(readings) + (0.4 / 60) * np.arange(96).reshape(8, 12, 1)
rate = 0.3 / (1 + inhibitor / 6.0)  # per minute; the constant of inhibition is 6 micromolar
rate = rate * (1 + 0.02 * rng.standard_normal((8, 12)))
height = 1.2 + 0.1 * rng.standard_normal((8, 12, 1))
y = 0.1 + height * (1 - np.exp(-rate[..., None] * minutes))
y = y + 0.01 * rng.standard_normal(y.shape)

y[2, 5] = y[6, 0] = np.nan  # not filled
y[4, 7, 30:] = np.nan  # the reader stopped
bubbles = rng.random(y.shape) < 0.01
y = y + 0.3 * bubbles
print(y.shape, "readings, of which", int(np.isnan(y).sum()), "are missing")

# %%
# A rise to a plateau is a decay with a negative coefficient beside a constant, and no model has to be written for
# it. Times have the shape of the data. Huber's loss takes little note of single wild readings.

model = vp.Exp("rise", tau=vp.Param(5.0, lower=0.5, upper=500.0)) + vp.Constant("plateau")
plate = vp.fit_many(model, minutes, y, sigma=0.01, nan="drop", noise="huber")
print(plate)

# %%
# The half life of each well, as a map of the plate. Wells that were not filled are grey, and their status says why.

half_life = np.log(2) * plate["rise.tau"].value
error = np.log(2) * plate["rise.tau"].stderr
print(plate.counts)
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
for ax, image, title in zip(
    axes, (half_life, error / half_life * 100), ("half life (min)", "its error (%)"), strict=True
):
    shown = ax.imshow(np.where(plate.success, image, np.nan), cmap="viridis")
    ax.set_facecolor("lightgrey")
    ax.set_xticks(range(12), range(1, 13))
    ax.set_yticks(range(8), rows)
    ax.set_title(title, fontsize="medium")
    fig.colorbar(shown, ax=ax, shrink=0.85)
plt.show()

# %%
# A table with a row for each well, to write to a file or to go on with.

table = plate.to_frame().assign(half_life=half_life.ravel())
table.index = [f"{row}{column}" for row in rows for column in range(1, 13)]
print(table[["rise.tau", "rise.tau_stderr", "half_life", "status"]].head(3).round(3))

# %%
# One well as a fit of its own, with all that a single fit tells, and its half life.

well = plate[4, 7]
print(well.derive({"half life": "log(2) * rise.tau"}).ci(0.95))
well.plot(labels=vp.Labels(x="minutes", y="absorbance"), fig=plt.figure(figsize=(6, 4)))
plt.show()

# %%
# From rates to the constant of inhibition: rates fall as 1 / (1 + I / Ki). A fit of rates with their standard errors,
# whose amplitude is the rate without inhibitor.


def inhibited(theta, concentration):
    return {"rate": 1 / (1 + concentration / theta["Ki"])}


good = plate.success
found, spread = 1 / plate["rise.tau"].value[good], (error / half_life)[good]
dose = np.broadcast_to(inhibitor, good.shape)[good]
curve = vp.fit(inhibited, dose, found, init={"Ki": 3.0}, sigma=found * np.hypot(spread, 0.02))
print(curve.ci(0.95, method="profile"))

fine = np.r_[np.linspace(0.0, 0.2, 9), np.geomspace(0.25, 300, 100)]
band = curve.predict(jnp.asarray(fine), band=0.95)
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(dose, found, "o", ms=3, alpha=0.5)
ax.plot(fine, band.value)
ax.fill_between(fine, band.lower, band.upper, alpha=0.3)
ax.set_xscale("symlog", linthresh=0.2)
ax.set_xlabel("inhibitor (micromolar)")
ax.set_ylabel("rate (per minute)")
plt.show()
