"""
A network whose last layer is linear
====================================

A network for regression ends in a linear layer, y = Phi(alpha; x) c. The best c for all other weights alpha is a
least-squares problem and need not be learnt: `vp.reduced_loss` is the loss that is left, for any optimiser of optax. Two
public tasks that matplotlib ships, heights over two coordinates: the Jacksboro fault (USGS) and the world.
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.cbook import get_sample_data

import varpro as vp

WIDTH, BATCH, RIDGE, EVERY, QR = 64, 512, 1e-2, 20, vp.linalg.QR()


def task(file, key):
    # Coordinates of -1 to 1 and standardised heights, 4000 points of them held out.
    height = get_sample_data(file)[key]
    x = 2 * np.indices(height.shape).reshape(2, -1).T / (np.array(height.shape) - 1) - 1
    y = (height.ravel() - height.mean()) / height.std()
    use = np.random.default_rng(0).permutation(y.size)[:20_000]
    x, y = jnp.asarray(x[use], jnp.float32), jnp.asarray(y[use], jnp.float32)
    return x[4000:], y[4000:], x[:4000], y[:4000]


# %%
# The network but for its last layer; its loss without that layer, and with it. `RIDGE` is the weight decay of c.


def network(key):
    one, two = jax.random.split(key)
    first, second = eqx.nn.Linear(2, WIDTH, key=one), eqx.nn.Linear(WIDTH, WIDTH - 1, key=two)
    return eqx.tree_at(lambda layer: layer.weight, first, 6 * first.weight), second


def features(alpha, x):
    first, second = alpha
    hidden = jnp.tanh(jax.vmap(lambda x: second(jnp.sin(first(x))))(x))
    return jnp.concatenate([hidden, jnp.ones((len(x), 1), x.dtype)], axis=1)


def best(alpha, x, y):
    return vp.reduced_loss(features, y, alpha, x, RIDGE, linear_solver=QR, has_aux=True)


def reduced(alpha, x, y):
    return best(alpha, x, y)[0] / len(y)


def whole(weights, x, y, ridge=RIDGE):
    resid = y - features(weights[0], x) @ weights[1]
    return 0.5 * (jnp.mean(resid**2) + ridge / len(y) * weights[1] @ weights[1])


def train(loss, weights, complete, rate, steps, x, y, x_val, y_val):
    # Adam with a cosine schedule: seconds of training, without compiling and judging, and the validation loss.
    judge = jax.jit(lambda weights: 2 * whole(complete(weights), x_val, y_val, 0.0))
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(carry, key):
        weights, state = carry
        rows = jax.random.randint(key, (BATCH,), 0, len(y))
        updates, state = optimiser.update(jax.grad(loss)(weights, x[rows], y[rows]), state)
        return (optax.apply_updates(weights, updates), state), None

    some = jax.jit(lambda *at: jax.lax.scan(step, at[:2], jax.random.split(at[2], EVERY))[0])
    state, key, spent, seen = optimiser.init(weights), jax.random.key(1), 0.0, []
    jax.block_until_ready(some(weights, state, key))
    for i in range(steps // EVERY):
        begin = time.perf_counter()
        weights, state = jax.block_until_ready(some(weights, state, jax.random.fold_in(key, i)))
        spent += time.perf_counter() - begin
        seen.append((spent, float(judge(weights))))
    return np.array(seen)


fig, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
files, losses = {"elevation": "jacksboro_fault_dem.npz", "topo": "topobathy.npz"}, {}
for panel, (key, file) in zip(panels, files.items(), strict=True):
    data, start = task(file, key), network(jax.random.key(0))
    some = data[0][:4096], data[1][:4096]
    whole_start = start, best(start, *some)[1]
    mine = train(reduced, start, lambda at, s=some: (at, best(at, *s)[1]), 1e-2, 160, *data)
    theirs = train(whole, whole_start, lambda at: at, 1e-2, 320, *data)
    losses[key] = mine[-1, 1], theirs[-1, 1]
    panel.plot(*mine.T, color="#d55e00", label="without the last layer")
    panel.plot(*theirs.T, color="#0072b2", label="all weights, twice the steps")
    panel.set(title=key, xlabel="seconds", ylabel="validation loss / variance", ylim=(0, 0.6))
panels[0].legend(frameon=False)
plt.show()
