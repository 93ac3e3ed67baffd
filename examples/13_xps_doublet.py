"""
A doublet, by areas
===================

The 2p electrons of an oxidised metal, as photoelectron spectra show them: two chemical states, each a
doublet of area ratio 2 to 1, of which every line has a width of its own, on the background of electrons that
lost energy on their way out.
"""

# Data: simulated, with known truth.
import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

rng = np.random.default_rng(4)
energy = np.linspace(448, 472, 481)
truth = {"metal32": (453.9, 0.32, 0.18, 9000), "metal12": (460.0, 0.32, 0.45, 4500)}
truth |= {"oxide32": (458.7, 0.55, 0.12, 6000), "oxide12": (464.4, 0.75, 0.35, 3000)}

lost = vp.Shirley("lost", k=0.02)


def line(name, **starts):
    """A Voigt line whose coefficient is its area, with the step that it carries."""
    return vp.Voigt(name, **starts, coefficient="area", loss=lost)


counts = 400.0
for name, (center, sigma, gamma, area) in truth.items():
    values = {"center": center, "sigma": sigma, "gamma": gamma, "lost.k": 0.035}
    arrays = {key: np.array([value]) for key, value in values.items()}
    counts = counts + area * line(name).evaluate(energy, arrays)[:, 0]
counts = rng.poisson(counts).astype(float)

# %%
# The ratio of areas is a relation of the coefficients, for these are areas. What people report is derived: the
# oxidised fraction, the shift, and the full width at half maximum of a Voigt line, each with the error that
# the covariance of all parameters gives it.

model = (
    line("metal32", center=454.0, sigma=0.4, gamma=0.2)
    + line("metal12", center=460.2, sigma=0.4, gamma=0.3)
    + line("oxide32", center=458.5, sigma=0.6, gamma=0.2)
    + line("oxide12", center=464.5, sigma=0.6, gamma=0.3)
    + vp.Constant("base")
)
areas = {"metal12": {"metal32": 0.5}, "oxide12": {"oxide32": 0.5}}
derived = {
    "oxidised": "oxide32.area / (oxide32.area + metal32.area)",
    "shift": "oxide32.center - metal32.center",
    "metal, FWHM": "metal32.fwhm",
    "oxide, FWHM": "oxide32.fwhm",
}
sigma = np.sqrt(counts)
fit = vp.fit(
    model, energy, counts, sigma=sigma, absolute_sigma=True, relations=areas, derived=derived
)
print(fit)

# %%
# The same relation of heights would be wrong wherever lines have widths of their own, and chi-square says so.
# The widths that it finds are far from the true ones, those of the oxide without flanks: all begin without.

lines = [
    vp.Voigt(name, center=center, sigma=sigma, gamma=0.0, loss=lost)
    for name, (center, sigma, _, _) in truth.items()
]
by_height = sum(lines, vp.Constant("base"))
heights = vp.fit(by_height, energy, counts, sigma=sigma, absolute_sigma=True, relations=areas)
print(f"chi-square {fit.chisq:.0f} by areas, {heights.chisq:.0f} by heights, {fit.dof} degrees")
print(fit.derive(derived).ci(0.95))

# %%
fig, (above, below) = plt.subplots(
    2, 1, figsize=(8, 5.5), layout="constrained", sharex=True, height_ratios=[3, 1]
)
above.plot(energy, counts, ".", color="0.6", ms=3)
parts = fit.components()
called = ("metal 2p3/2", "metal 2p1/2", "oxide 2p3/2", "oxide 2p1/2")
colors = ("#0072b2", "#56b4e9", "#009e73", "#cc79a7")
for name, label, color in zip(truth, called, colors, strict=True):
    above.plot(energy, parts[name] + parts["base"], color=color, lw=1, label=label)
above.plot(energy, fit.fitted, color="#d55e00", lw=1.2, label="fit")
above.set(ylabel="counts", ylim=(0, 1.15 * counts.max()))
above.legend(frameon=False, ncols=5, fontsize="small", loc="upper center")
below.plot(energy, fit.resid / sigma, ".", color="0.4", ms=3)
below.axhline(0, color="0.7", lw=0.8)
below.set(xlabel="binding energy (eV)", ylabel="residual / sigma", xlim=(energy[-1], energy[0]))
plt.show()
