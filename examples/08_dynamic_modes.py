"""
Dynamic modes of a flow
=======================

A wake sheds vortices at one frequency while the whole field breathes at another. Snapshots at irregular
times, with a tenth of noise, tell both, and how well: with modes, decay rates and standard errors.
"""

import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

# Simulated: 48 x 96 points, 80 snapshots at random times; frequencies 0.83 (decaying) and 0.31.
rng = np.random.default_rng(2)
x, y = np.meshgrid(np.linspace(0, 8, 96), np.linspace(-1.5, 1.5, 48))
street = np.exp(-((np.abs(y) - 0.3) ** 2) / 0.18) * np.exp(
    2j * np.pi * x / 2.1 + 1j * np.pi * (y > 0)
)
street *= np.tanh(x)
breath = np.exp(-((x - 4.5) ** 2) / 6.0 - y**2 / 0.8) * np.exp(0.4j * x)
t = np.sort(rng.uniform(0.0, 12.0, 80))
truth = {0.83: -0.05, 0.31: -0.02}
waves = [np.exp((growth + 2j * np.pi * f) * t) for f, growth in truth.items()]
clean = np.real(street[..., None] * waves[0] + 0.8 * breath[..., None] * waves[1])
X = clean + 0.1 * clean.std() * rng.normal(size=clean.shape)

# %%
# Real data have pairs of eigenvalues. Bags are fits of random subsets of the snapshots, whose spread gives
# standard errors without a model of the noise.

fit = vp.dmd(X, t, r=4, num_bags=40, key=0)
print(fit)
print("\nstandard errors of the frequencies")
print("  by covariance", np.imag(fit.stderr) / (2 * np.pi))
print("  by bags      ", np.imag(fit.bags.stderr) / (2 * np.pi))

# %%
# Exact dynamic mode decomposition needs even times, and where there are few points to average over,
# noise makes its waves decay. Here are twelve of them.

even = np.linspace(0.0, 12.0, 80)
waves = [np.exp((growth + 2j * np.pi * f) * even) for f, growth in truth.items()]
few = (slice(8, 48, 15), slice(10, 96, 25))
Z = np.real(street[few][..., None] * waves[0] + 0.8 * breath[few][..., None] * waves[1])
Z = Z.reshape(12, -1) + 0.1 * clean.std() * rng.normal(size=(12, 80))
left, size, right = np.linalg.svd(Z[:, :-1], full_matrices=False)
step = left[:, :4].T @ Z[:, 1:] @ right[:4].T / size[:4]
exact = np.log(np.linalg.eigvals(step).astype(complex)) / even[1]
some = vp.dmd(Z, even, r=4)
print("exact DMD:", np.round(exact, 3), "\noptimised:", np.round(some.eigenvalues, 3))

# %%
fig, ax = plt.subplots(3, 2, figsize=(11, 7.5), layout="constrained")
leading = [i for i in range(4) if fit.frequency[i] > 0]
for row, i in enumerate(leading):
    true = (street, breath)[row]
    # A mode is known up to a phase.
    turn = np.exp(-1j * np.angle(np.vdot(true, fit.modes[..., i])))
    found = np.real(fit.modes[..., i] * turn)
    for a, image, title in (
        (ax[row, 0], np.real(true) / np.linalg.norm(true), "true"),
        (ax[row, 1], found, f"found, f = {fit.frequency[i]:.4f}"),
    ):
        top = np.abs(found).max()
        a.imshow(
            image, cmap="RdBu_r", vmin=-top, vmax=top, origin="lower", extent=(0, 8, -1.5, 1.5)
        )
        a.set(title=f"mode {row + 1}: {title}", xticks=[], yticks=[])
e = ax[2, 0]
e.plot(np.real(exact), np.imag(exact) / (2 * np.pi), "x", color="#c8641b", label="exact DMD")
errors = np.imag(some.stderr) / np.pi, 2 * np.real(some.stderr)
e.errorbar(some.growth, some.frequency, *errors, ".", color="#1f5fa8", label="optimised, 2 errors")
e.plot(list(truth.values()), list(truth), "+", ms=13, color="k", label="truth")
e.set(
    xlim=(-0.12, 0.02),
    ylim=(0.2, 0.95),
    xlabel="growth rate",
    ylabel="frequency",
    title="twelve points: eigenvalues",
)
e.legend(frameon=False, fontsize=8)
fine = np.linspace(0.0, 14.0, 500)
mean, std = fit.forecast(fine)
at = (30, 60)
ax[2, 1].fill_between(
    fine, mean[at] - 2 * std[at], mean[at] + 2 * std[at], color="#1f5fa8", alpha=0.25
)
ax[2, 1].plot(
    fine, mean[at], lw=1.2, color="#1f5fa8", label="mean of bags, two standard deviations"
)
ax[2, 1].plot(t, X[at], ".", ms=4, color="k", label="data")
ax[2, 1].set(xlabel="t", title=f"point {at}, and two units ahead", ylim=(-2.2, 3.0))
ax[2, 1].legend(frameon=False, fontsize=8, loc="upper right")
plt.show()
