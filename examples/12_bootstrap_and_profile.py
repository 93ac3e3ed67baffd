"""
Bootstrap against profile
=========================

Six measurements of the biochemical oxygen demand of water, and a rate that they hardly fix: the
textbook case in which a standard error misleads (Bates and Watts 1988, data set A1.4).
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

days = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
demand = np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])


def saturation(theta, t):
    return {"total": 1 - jnp.exp(-theta["k"] * t)}


fit = vp.fit(saturation, days, demand, init={"k": 0.5})
print(fit)

# %%
# Three answers to one question. The covariance takes the curve for a plane and allows a negative
# rate. The profile follows the curve. The bootstrap knows nothing of Student's t and has six
# residuals to draw from: it is too sure.

drawn = fit.bootstrap(2000, kind="residual", key=1)
answers = {
    "covariance": fit.ci(0.95),
    "profile": fit.ci(0.95, method="profile"),
    "bootstrap": drawn.ci(0.95),
}
for method, found in answers.items():
    print(f"{method}\n{found}\n")

# %%
# The joint region of both parameters, and the profile of the rate: where it is straight, the
# covariance would do.

contour = fit.contour("k", "total", span=8.0, points=33)
trace = fit.profile("k", span=6.0, points=41)
k, total = drawn.samples(["k", "total"]).T

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
t = np.linspace(0, 8, 100)
band = fit.predict(t, band=0.95)
left.plot(days, demand, "ko", ms=5)
left.plot(t, band.value, color="#d55e00")
left.fill_between(t, band.lower, band.upper, color="#d55e00", alpha=0.2, lw=0)
left.set(xlabel="days", ylabel="oxygen demand (mg/l)", ylim=(-5, 35), title="data, fit, 95 % band")

middle.plot(k, total, ".", color="0.6", ms=2, label="bootstrap")
lines = middle.contour(
    contour.first, contour.second, contour.level.T, levels=[0.5, 0.8, 0.95], colors="#0072b2"
)
middle.clabel(lines, fmt=lambda level: f"{100 * level:.0f} %")
angle = np.linspace(0, 2 * np.pi, 200)
root = np.linalg.cholesky(fit.covariance_of(["k", "total"]))
radius = np.sqrt(2 * 6.944)  # 6.944: the 95 % point of F(2, 4)
x, y = radius * root @ [np.cos(angle), np.sin(angle)]
middle.plot(x + fit["k"].value, y + fit["total"].value, color="#e69f00", label="covariance, 95 %")
middle.set(xlabel="k (1/day)", ylabel="total", xlim=(-0.4, 2), ylim=(5, 40))
middle.legend(frameon=False)

right.plot(trace.value, trace.tau, color="#0072b2", label="profile")
straight = (trace.value - fit["k"].value) / fit["k"].stderr
right.plot(trace.value, straight, color="#e69f00", label="covariance")
right.axhspan(-2.776, 2.776, color="0.9", label="95 %")  # Student's t with 4 degrees of freedom
right.set(xlabel="k (1/day)", ylabel="tau", ylim=(-5, 5))
right.legend(frameon=False)
plt.show()
