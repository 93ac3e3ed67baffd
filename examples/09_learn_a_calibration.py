"""
A calibration learnt through the fit
====================================

The clock of a camera is not quite linear. Dyes whose lifetimes are known are measured, and the clock
is bent until the *fitted* lifetimes agree with the known ones: an optimisation whose every step
contains fits, and whose gradient passes through them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optimistix as optx

import varpro as vp

jax.config.update("jax_enable_x64", True)

# Three dyes and a tick u of 0 to 1 for a window of 20 ns. True time has a bow and a wiggle.
known = jnp.array([0.9, 2.4, 5.1])
u = jnp.linspace(0.0, 1.0, 240)


def clock(bend, u):
    """Time of a tick. What moves all lifetimes by one factor is known: the window's length."""
    return 20.0 * (u + bend[0] * u * (1 - u) + bend[1] * u * (1 - u) * (1 - 2 * u))


truth = jnp.array([0.22, -0.35])
counts = 4000 * jnp.exp(-clock(truth, u)[:, None] / known) + 40.0
counts = jnp.asarray(np.random.default_rng(3).poisson(counts), float)

# %%
# `vp.solve` is a pure function. A fit of one dye, all dyes at once, and by how much they are wrong:


def basis(alpha, t):
    return jnp.stack([jnp.exp(-t / alpha["tau"]), jnp.ones_like(t)], axis=1)


def lifetime(bend, y):
    t = clock(bend, u)
    weights = 1 / jnp.sqrt(jnp.maximum(y, 1.0))
    return vp.solve(basis, y, {"tau": 2.0}, t, weights=weights).value["tau"]


@eqx.filter_jit
def lifetimes(bend):
    return jax.vmap(lifetime, (None, 1))(bend, counts)


def wrong(bend, _):
    return lifetimes(bend) / known - 1.0


# %%
# The derivative of all fits by the calibration, by implicit differentiation of their optima; central
# differences of the whole program say the same.

start = jnp.zeros(2)
exact = jax.jacrev(wrong)(start, None)
step = 1e-5 * jnp.eye(2)
central = jnp.stack(
    [(wrong(start + h, None) - wrong(start - h, None)) / 2e-5 for h in step], axis=1
)
print("derivative\n", exact, "\ngreatest difference", float(jnp.abs(exact - central).max()))

# %%
# So the calibration is itself a least-squares problem: two unknowns, three residuals.

solver = optx.LevenbergMarquardt(rtol=1e-8, atol=1e-8)
answer = optx.least_squares(wrong, solver, start).value
print("bend", np.round(answer, 3), "truth", truth)
print("lifetimes", np.round(lifetimes(answer), 3), "known", known, "before", lifetimes(start))

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.plot(20 * u, clock(truth, u) - 20 * u, color="k", lw=3, alpha=0.3, label="truth")
left.plot(
    20 * u, clock(answer, u) - 20 * u, color="#d55e00", ls="--", label="learnt from lifetimes"
)
left.set(xlabel="what the clock says (ns)", ylabel="what it lacks (ns)")
left.legend(frameon=False)
for j, color in enumerate(("#0072b2", "#009e73", "#d55e00")):
    right.semilogy(20 * u, counts[:, j] - 40, ".", color=color, ms=2, alpha=0.25)
    right.semilogy(
        clock(answer, u), counts[:, j] - 40, ".", color=color, ms=3, label=f"{known[j]} ns"
    )
right.set(xlabel="time (ns)", ylabel="counts", ylim=(20, 5000), title="pale: before")
right.legend(frameon=False)
plt.show()
