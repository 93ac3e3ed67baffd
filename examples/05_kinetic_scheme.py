"""
A kinetic scheme
================

The same fluorescence of photosystem I, with a scheme of compartments in place of parallel decays: what
is excited passes through three states in turn. The coefficients are then the spectra of states.
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
# Arrows name the transfers, with a start for the rate of each (per ps); `D->` is lost.

irf = vp.GaussianIRF("irf", center=-84.0, width=1.5, period=13200.0, backsweep=True)
rates = {"A->B": 0.2, "B->C": 0.07, "C->D": 0.02, "D->": 5e-4}
scheme = vp.Kinetics("psi", rates, irf=irf)
chain = scheme + vp.Constant("dark")
fit = vp.fit(chain, t, y, nonnegative=["dark"])
print(fit)

# %%
# Parallel decays describe the data equally well: a scheme is not fitted better, it says more. Its
# coefficients are combinations of the decay-associated spectra, and a scheme is plausible if none of
# them is negative where a state can only shine.

lifetimes = {"s1": 5.0, "s2": 15.0, "s3": 50.0, "s4": 2000.0}
parallel = sum(vp.Exp(name, tau=tau, irf=irf) for name, tau in lifetimes.items())
other = vp.fit(parallel + vp.Constant("dark"), t, y, nonnegative=["dark"])
print(f"chi-square {fit.chisq:.8g} and {other.chisq:.8g}")
for arrow, name in zip(rates, lifetimes, strict=True):
    print(
        f"psi.{arrow}: 1/rate {1 / fit[f'psi.{arrow}'].value:.4g} ps, {name} {other[f'{name}.tau'].value:.4g} ps"
    )

# %%
states = ("A", "B", "C", "D")
colors = ("#0072b2", "#009e73", "#d55e00", "#cc79a7")
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
strongest = int(np.argmax(y.max(axis=0)))
parts = fit.components()
for state, color in zip(states, colors, strict=True):
    one = fit[f"psi.{state}"]
    size = one.value[strongest]
    middle.errorbar(wavelength, one.value, one.stderr, color=color, marker=".", label=state)
    left.plot(
        t - fit["irf.center"].value,
        parts[f"psi.{state}"][:, strongest] / size,
        color=color,
        label=state,
    )
left.set(xlim=(-8, 120), xlabel="time (ps)", title="populations, through the response")
left.legend(frameon=False)
middle.axhline(0, color="k", lw=0.5)
middle.set(xlabel="wavelength (nm)", title="spectra of the states")
for j, color in ((19, "#0072b2"), (28, "#009e73"), (34, "#d55e00")):
    right.plot(t - fit["irf.center"].value, y[:, j], ".", color=color, ms=2, alpha=0.4)
    right.plot(
        t - fit["irf.center"].value, fit.fitted[:, j], color=color, label=f"{wavelength[j]:.0f} nm"
    )
right.set(xlim=(-8, 120), xlabel="time (ps)", title="counts and fit")
right.legend(frameon=False)

# %%
# The populations are sums of decays, and the amplitudes of these, a matrix, turn the spectra of states into
# decay-associated ones: those of the parallel fit, here as points.

speeds, amplitudes = scheme.modes({name: fit[f"psi.{name}"].value for name in rates})
species = np.stack([fit[f"psi.{state}"].value for state in states])
associated = amplitudes.T @ species
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for state, spectrum, color in zip(states, species, colors, strict=True):
    left.plot(wavelength, spectrum, color=color, label=state)
ends = [f"{float(f'{1 / speed:.3g}'):g}" for speed in speeds]
for lifetime, spectrum, name, color in zip(ends, associated, lifetimes, colors, strict=True):
    middle.plot(wavelength, spectrum, color=color, label=f"{lifetime} ps")
    middle.plot(wavelength, other[name].value, ".", color=color)
    assert np.allclose(spectrum, other[name].value, atol=1e-3 * np.abs(associated).max())
for axis, title in ((left, "spectra of the states"), (middle, "decay-associated spectra")):
    axis.axhline(0, color="k", lw=0.5)
    axis.set(xlabel="wavelength (nm)", title=title)
    axis.legend(frameon=False)
right.imshow(amplitudes, cmap="RdBu_r", vmin=-2, vmax=2)
for (i, j), value in np.ndenumerate(amplitudes):
    shade = "w" if abs(value) > 1.5 else "k"
    right.text(j, i, f"{value:.2f}", ha="center", va="center", color=shade)
right.set(title="amplitudes", xlabel="lifetime (ps)")
right.set_yticks(range(len(states)), states)
right.set_xticks(range(len(ends)), ends)
plt.show()
