"""
A perfusion map with amplitudes that are not negative
=====================================================

Diffusion-weighted magnetic resonance sees two decays in every voxel: water that diffuses slowly in tissue and,
ten times faster, blood that flows in capillaries at random (intravoxel incoherent motion, IVIM). The fraction of
blood is small, and where noise hides it a free fit makes it negative.
"""

import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

# Simulated: a slice of a liver with a lesion, 11 diffusion weightings, noise of 2 % of the signal.
rng = np.random.default_rng(4)
b = np.array([0, 10, 20, 40, 60, 90, 130, 200, 350, 500, 800.0])  # s/mm2
size = 48
v, u = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
body, lesion = np.hypot(u, v) < 0.95, np.hypot(u - 0.3, v + 0.2) < 0.35
fraction = np.where(lesion, 0.04, 0.22) * body
tissue = np.where(lesion, 1.6e-3, 1.1e-3)
signal = (1 - fraction[..., None]) * np.exp(-b * tissue[..., None])
signal = body[..., None] * (signal + fraction[..., None] * np.exp(-b * 0.05))
signal = signal + 0.02 * rng.standard_normal(signal.shape)
print(signal.shape, "values of", int(body.sum()), "voxels in the body")

# %%
# Amplitudes are linear coefficients and have no start. `nonnegative` holds exactly, in every voxel by itself, and
# `starts` gives every voxel the best of 64 starts in the box of the bounds: compared by a product of
# matrices, for a start is a projection.

model = vp.Exp("tissue", rate=vp.Param(1e-3, lower=2e-4, upper=4e-3)) + vp.Exp(
    "blood", rate=vp.Param(3e-2, lower=1e-2, upper=0.2)
)
options = {"mask": body[..., None], "sigma": 0.02, "absolute_sigma": True}
fit = vp.fit_many(model, b, signal, nonnegative=True, starts=64, **options)
free = vp.fit_many(model, b, signal, **options)
print(fit)
negative = (free["blood"].value < 0) & free.success
print(int(negative.sum()), "voxels have negative blood in a free fit")

# %%
# The perfusion fraction. A voxel without blood says nothing of its rate, and its status says so.

amplitudes = fit["blood"].value, fit["tissue"].value
found = amplitudes[0] / np.where(body, sum(amplitudes), np.nan)
for name, where in (("lesion", lesion), ("tissue", body & ~lesion)):
    print(
        f"{name}: fraction {np.nanmedian(found[where]):.3f}, true {np.median(fraction[where]):.3f}"
    )
print(fit.counts)

fig, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
one_by_one = free["blood"].value / np.where(
    body, free["blood"].value + free["tissue"].value, np.nan
)
for ax, image, title in zip(
    axes,
    (np.where(body, fraction, np.nan), one_by_one, found),
    ("truth", "free", "nonnegative"),
    strict=True,
):
    shown = ax.imshow(image, vmin=-0.1, vmax=0.4, cmap="viridis")
    ax.set_title(f"fraction of blood, {title}", fontsize="medium")
    ax.set_axis_off()
fig.colorbar(shown, ax=axes, shrink=0.8)
plt.show()

# %%
# One voxel as a fit of its own, with all that a single fit tells.

voxel = fit[30, 20]
print(voxel)
labels = vp.Labels(x="b (s/mm²)", y="signal / signal at b = 0")
voxel.plot(labels=labels, fig=plt.figure(figsize=(6, 4)))
plt.show()

# %%
# How rates of tissue are spread, each voxel by its amplitude.

fig = plt.figure(figsize=(7, 2.6))
fit.plot_histograms(["tissue.rate", "blood"], weight="tissue", fig=fig)
fig.axes[0].set_xlabel("diffusion of tissue (mm²/s)")
fig.axes[1].set_xlabel("amplitude of blood")
plt.show()
