"""
A basis that solves an equation
===============================

A model of your own is a function. This one integrates the kinetics of excitons that also annihilate
in pairs, ``dn/dt = -k n - g n^2``, for which no sum of exponentials is right, and which feed a
product. The spectra of both are coefficients and need no start.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

t = np.concatenate([np.linspace(0, 2, 41), np.geomspace(2.2, 60, 60)])


def rates(n, theta):
    loss = theta["k"] * n[0] + theta["g"] * n[0] ** 2
    return jnp.array([-loss, theta["k"] * n[0] - n[1] / theta["tau"]])


def populations(theta, t):
    """Runge and Kutta's fourth-order rule from sample to sample; JAX differentiates through it."""

    def step(n, h):
        a = rates(n, theta)
        b = rates(n + 0.5 * h * a, theta)
        c = rates(n + 0.5 * h * b, theta)
        d = rates(n + h * c, theta)
        n = n + h / 6 * (a + 2 * b + 2 * c + d)
        return n, n

    start = jnp.array([1.0, 0.0]).astype(t.dtype)
    _, after = jax.lax.scan(step, start, jnp.diff(t))
    both = jnp.concatenate([start[None], after])
    return {"exciton": both[:, 0], "product": both[:, 1]}


# %%
# Transient absorption at 40 wavelengths: the exciton bleaches, the product absorbs.

wavelength = np.linspace(480, 720, 40)
spectra = np.stack(
    [
        -np.exp(-0.5 * ((wavelength - 560) / 22) ** 2)
        - 0.4 * np.exp(-0.5 * ((wavelength - 610) / 20) ** 2),
        0.6 * np.exp(-0.5 * ((wavelength - 660) / 30) ** 2),
    ]
)
truth = {"k": 0.15, "g": 0.9, "tau": 25.0}
with jax.enable_x64(True):
    clean = np.stack([np.asarray(c) for c in populations(truth, jnp.asarray(t)).values()], axis=1)
data = clean @ spectra + 0.01 * np.random.default_rng(4).normal(size=(t.size, wavelength.size))

start = {
    name: vp.Param(value, lower=0.0) for name, value in {"k": 0.3, "g": 0.2, "tau": 10.0}.items()
}
fit = vp.fit(populations, t, data, init=start)
print(fit)

# %%
# Without annihilation the best that two exponentials can do is visibly wrong.

plain = vp.fit(vp.Exp("fast", tau=2.0) + vp.Exp("slow", tau=20.0), t, data)
print(vp.compare(fit, plain, names=["annihilation", "two exponentials"]))

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for nm, color in ((560, "#0072b2"), (610, "#009e73"), (660, "#d55e00")):
    j = int(np.argmin(np.abs(wavelength - nm)))
    left.plot(t, data[:, j], ".", color=color, ms=4, alpha=0.6)
    left.plot(t, fit.fitted[:, j], color=color, label=f"{nm} nm")
    left.plot(t, plain.fitted[:, j], color="k", lw=0.8, ls=":")
left.set_xscale("symlog", linthresh=2)
left.set(xlabel="time (ps)", ylabel="absorbance change", title="dotted: two exponentials")
left.legend(frameon=False)
for name, true, color in zip(("exciton", "product"), spectra, ("#0072b2", "#d55e00"), strict=True):
    right.plot(wavelength, true, color="k", lw=3, alpha=0.25)
    one = fit[name]
    right.errorbar(wavelength, one.value, one.stderr, color=color, marker=".", lw=1, label=name)
right.axhline(0, color="k", lw=0.5)
right.set(xlabel="wavelength (nm)", title="spectra found (grey: truth)")
right.legend(frameon=False)
plt.show()
