"""
Photon counting with a measured response
========================================

Single photons, counted into a thousand channels: two lifetimes seen through the response
of the instrument, which was measured and has a shape that no formula has. The counts are fitted by their
likelihood; what the response is off by, its shift, is a parameter.
"""

import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

# Simulated: a response with a shoulder and a tail, and the counts of a sample behind it.
rng = np.random.default_rng(7)
dt, channels = 0.0125, 1000
t = dt * np.arange(channels)


def pulse(t):
    main = np.exp(-0.5 * ((t - 1.0) / 0.06) ** 2) + 0.25 * np.exp(-0.5 * ((t - 1.22) / 0.08) ** 2)
    return main + 0.03 * np.where(t > 1.0, np.exp(-(t - 1.0) / 0.5), 0.0)


fine = dt / 10 * np.arange(10 * channels)
clean = np.zeros(channels)
for amplitude, tau in ((1.0, 0.42), (0.35, 2.6)):
    seen = np.convolve(pulse(fine - 0.031), amplitude * np.exp(-fine / tau))[: fine.size]
    clean += seen[::10]
response = rng.poisson(2e4 * pulse(t) + 4.0)
counts = rng.poisson(9e3 * clean / clean.max() + 12.0)

# %%
# The response as it was measured, with its own dark counts; its shift against the sample is sought.

irf = vp.MeasuredIRF("irf", t, response.astype(float), shift=0.0, background=4.0)
model = vp.Exp("fast", tau=0.3, irf=irf) + vp.Exp("slow", tau=3.0, irf=irf) + vp.Constant("dark")
fit = vp.fit(model, t, counts.astype(float), noise="poisson")
print(fit)

# %%
# As if the response were a Gaussian, and least squares without weights: what is neglected shows.

plain = vp.GaussianIRF("irf", center=1.0, width=0.08)
rough = vp.fit(
    vp.Exp("fast", tau=0.3, irf=plain) + vp.Exp("slow", tau=3.0, irf=plain) + vp.Constant("dark"),
    t,
    counts.astype(float),
    sigma=np.sqrt(np.maximum(counts, 1)),
    absolute_sigma=True,
)
for name, true in (("fast.tau", 0.42), ("slow.tau", 2.6)):
    measured, gaussian = (" +/- ".join(one[name].rounded) for one in (fit, rough))
    print(f"{name}: truth {true}, measured response {measured}, Gaussian response {gaussian}")
print(f"reduced chi-square {fit.redchi:.3f} and {rough.redchi:.1f}")

# %%
# Residuals show what the numbers say: on the right they follow the response.

whole = plt.figure(figsize=(11, 5), layout="constrained")
for part, one, title in zip(
    whole.subfigures(1, 2), (fit, rough), ("measured", "Gaussian"), strict=True
):
    one.plot(log="y", labels=vp.Labels(x="time (ns)", y="counts"), fig=part)
    part.suptitle(f"{title} response", fontsize=10)
plt.show()
