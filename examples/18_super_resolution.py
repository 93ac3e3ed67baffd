"""
A sharper image from shifted ones
=================================

A camera that moves a little between frames sees more than its pixels. Every pixel of the finer image is a
coefficient, thousands of them, and the shifts are what is nonlinear. Their matrix is never written down:
the model returns an operator.
"""

import jax
import jax.numpy as jnp
import lineax as lx
import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

# A scene of SIDE x SIDE, and what a camera with half as many pixels along each axis sees of it in four frames:
# blurred, shifted by parts of a pixel that nobody knows, and with 1 % of noise.
SIDE, FACTOR, BLUR, NOISE = 72, 2, 0.8, 0.01
SMALL = SIDE // FACTOR
v, u = np.mgrid[:SIDE, :SIDE] / SIDE
radius, angle = np.hypot(u - 0.5, v - 0.5), np.arctan2(v - 0.5, u - 0.5)
scene = np.where((radius < 0.45) & (radius > 0.1), np.cos(18 * angle) > 0, 0.0)
scene += np.exp(-((radius / 0.05) ** 2))

row, column = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
lens = np.exp(-2 * np.pi**2 * BLUR**2 * (row**2 + column**2))

# %%
# The operator at given shifts, in pixels of the camera: the first frame is where the scene is. Its
# transpose JAX finds by itself.


def camera(theta, _):
    right = jnp.stack([0.0, theta["right1"], theta["right2"], theta["right3"]])
    down = jnp.stack([0.0, theta["down1"], theta["down2"], theta["down3"]])
    turns = FACTOR * (down[:, None, None] * row + right[:, None, None] * column)
    transfer = lens * jnp.exp(-2j * np.pi * turns)

    def frames(image):
        seen = jnp.fft.irfft2(transfer * jnp.fft.rfft2(image), s=(SIDE, SIDE))
        return seen.reshape(4, SMALL, FACTOR, SMALL, FACTOR).mean((2, 4))

    return lx.FunctionLinearOperator(frames, jax.ShapeDtypeStruct((SIDE, SIDE), float))


truth = {"right1": 0.53, "down1": -0.21, "right2": -0.34, "down2": 0.62}
truth |= {"right3": 0.27, "down3": 0.45}
with jax.enable_x64(True):
    clean = np.asarray(camera(truth, None).mv(jnp.asarray(scene)))
frames = clean + NOISE * np.random.default_rng(4).normal(size=clean.shape)

# %%
# Noise is amplified where the lens lets little through, so that neighbouring pixels are asked to be alike.
# The strength is that of the noise against the steps of the scene, squared: a third of its contrast.

fit = vp.fit(
    camera,
    None,
    frames,
    init=dict.fromkeys(truth, 0.0),
    sigma=NOISE,
    absolute_sigma=True,
    penalty=vp.Tikhonov(0.3**-2, "gradient"),
)
print(fit)
off = max(abs(fit[name].value - value) for name, value in truth.items())
print(f"shifts within {off:.4f} pixels")

# %%
# Between the spokes one frame sees grey; four of them, put where they belong, tell them apart.

fig, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
pictures = {"one frame of four": frames[0], "the image of all": fit.coef, "the scene": scene}
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture, cmap="gray", vmin=-0.1, vmax=1.1)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()
