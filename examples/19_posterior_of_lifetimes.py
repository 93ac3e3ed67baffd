"""
What few photons tell of two lifetimes
======================================

A standard error is right where the model is a plane over the region that it covers. Two lifetimes in a short
window, noise that is not known, a bound near by: there the distribution of what the data allow is bent, and
``fit.posterior()`` draws from it. Amplitudes and noise are integrated out by formula, so that the sampler
walks in two dimensions and not in six.
"""

import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

t = np.linspace(0.0, 6.0, 40)
truth = {"fast.tau": 0.6, "slow.tau": 2.5}
clean = 2.0 * np.exp(-t / truth["fast.tau"]) + np.exp(-t / truth["slow.tau"])
y = clean + 0.03 * np.random.default_rng(2).normal(size=t.size)

model = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=3.0)
bounds = {"fast.tau": (0.05, 1.5), "slow.tau": (1.0, 10.0)}
fit = vp.fit(model, t, y, bounds=bounds, order=("fast.tau", "slow.tau"))
draws = fit.posterior(500, warmup=300)
print(draws)

# %%
# The covariance says "so much to either side". The posterior is a bent valley: a long lifetime goes
# with a slow one of small amplitude, and there is more of it above than below.

for name in truth:
    one, other = fit.ci()[name], draws.ci()[name]
    print(f"{name}: covariance {one.lower:.2f} to {one.upper:.2f}, ", end="")
    print(f"posterior {other.lower:.2f} to {other.upper:.2f}")

# %%
# The same as a picture: draws of both lifetimes, and the ellipse of the covariance that holds 95 %.

fast, slow = (draws.samples(name).ravel() for name in truth)
turn = np.linspace(0, 2 * np.pi, 200)
root = np.linalg.cholesky(fit.covariance_of(list(truth)))
ellipse = np.sqrt(5.99) * root @ [np.cos(turn), np.sin(turn)]

fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
axes[0].plot(fast, slow, ".", ms=2, alpha=0.4, color="#0072b2", label="posterior")
axes[0].plot(fit["fast.tau"].value + ellipse[0], fit["slow.tau"].value + ellipse[1], "#d55e00")
axes[0].plot([], [], "#d55e00", label="covariance, 95 %")
axes[0].plot(*truth.values(), "k+", ms=12, mew=2, label="truth")
axes[0].set(xlabel="fast.tau", ylabel="slow.tau")
axes[0].legend()
axes[1].hist(slow, bins=60, density=True, color="#0072b2", alpha=0.6)
for end in (fit.ci()["slow.tau"].lower, fit.ci()["slow.tau"].upper):
    axes[1].axvline(end, color="#d55e00")
axes[1].axvline(truth["slow.tau"], color="k", ls=":")
axes[1].set(xlabel="slow.tau", ylabel="density")
plt.show()
