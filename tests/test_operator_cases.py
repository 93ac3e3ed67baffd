"""Linear parts that people have: a tomogram whose axis is not where one thinks, a background of many knots.

Each is an operator that knows only its product, and beside it stands the matrix of that operator, with the
coefficients eliminated by dense algebra.
"""

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.optimize

import varpro as vp

SIDE, DETECTORS, ANGLES = 12, 20, 15
STRENGTH = 0.05


def matrix_of(basis, structure):
    """A function of alpha that returns the matrix (m, n) of an operator, coefficients and data laid out flat."""
    flat, unravel = jax.flatten_util.ravel_pytree(
        jax.tree.map(lambda leaf: np.zeros(leaf.shape), structure)
    )

    @jax.jit
    def made(alpha):
        def column(c):
            return jax.flatten_util.ravel_pytree(basis(alpha, None).mv(unravel(c)))[0]

        return jax.vmap(column, out_axes=1)(jnp.eye(flat.size))

    return lambda alpha: np.asarray(made(alpha))


def least_cost(phi, y, rows):
    """Half of the least squares of data and penalty, over all coefficients."""
    a, b = np.concatenate([phi, rows]), np.concatenate([y, np.zeros(len(rows))])
    return 0.5 * np.sum((a @ np.linalg.lstsq(a, b)[0] - b) ** 2)


def footprint(d):
    """The cubic B-spline, so that a pixel that moves over detectors leaves no kink."""
    d = jnp.abs(d)
    near, far = 2 / 3 - d**2 + d**3 / 2, (2 - d) ** 3 / 6
    return jnp.where(d < 1, near, jnp.where(d < 2, far, 0.0))


def sinogram(alpha, _):
    """Parallel rays through an image that turns about an axis at `axis`, in detectors from the middle."""
    place = np.arange(SIDE) - (SIDE - 1) / 2
    u, v = (a.ravel() for a in np.meshgrid(place, place, indexing="ij"))
    angle = np.linspace(0.0, np.pi, ANGLES, endpoint=False)[:, None]
    middle = (DETECTORS - 1) / 2
    seen_at = u * np.cos(angle) + v * np.sin(angle) + middle + alpha["axis"]  # (angles, pixels)
    first = jnp.floor(seen_at).astype(int) - 1
    taps = first[..., None] + jnp.arange(4)
    weight = footprint(taps - seen_at[..., None])
    inside = (taps >= 0) & (taps < DETECTORS)
    rows = jnp.arange(ANGLES)[:, None, None]

    def project(image):
        light = jnp.where(inside, weight * image.ravel()[:, None], 0.0)
        return jnp.zeros((ANGLES, DETECTORS)).at[rows, taps].add(light, mode="drop")

    return lx.FunctionLinearOperator(project, jax.ShapeDtypeStruct((SIDE, SIDE), float))


def test_the_axis_of_a_tomogram_is_found_with_the_image():
    place = np.linspace(-1, 1, SIDE)
    u, v = np.meshgrid(place, place, indexing="ij")
    image = ((u / 0.7) ** 2 + (v / 0.5) ** 2 < 1) + 0.5 * ((u - 0.2) ** 2 + (v + 0.1) ** 2 < 0.1)
    clean = jax.jit(lambda c: sinogram({"axis": 0.8}, None).mv(c))(jnp.asarray(image, float))
    y = np.asarray(clean) + 0.05 * np.random.default_rng(0).normal(size=clean.shape)

    fit = vp.fit(
        sinogram, None, y, init={"axis": 0.0}, sigma=0.05, penalty=vp.Tikhonov(STRENGTH / 0.05**2)
    )
    assert fit.success, fit.message
    assert abs(fit["axis"].value - 0.8) < 4 * fit["axis"].stderr < 0.1

    rows = np.sqrt(STRENGTH) * np.eye(SIDE**2)
    dense = matrix_of(sinogram, sinogram({"axis": 0.0}, None).in_structure())

    def cost(axis):
        return least_cost(dense({"axis": axis}), y.ravel(), rows)

    found: Any = scipy.optimize.minimize_scalar(cost, bracket=(0.6, 1.0), tol=1e-10)
    assert abs(fit["axis"].value - found.x) < 1e-4 * fit["axis"].stderr + 1e-6
    phi = dense({"axis": found.x})
    image = np.linalg.solve(phi.T @ phi + rows.T @ rows, phi.T @ y.ravel())
    np.testing.assert_allclose(fit.coef.ravel(), image, atol=1e-4 * np.abs(image).max())


def test_a_background_of_many_knots_under_a_peak():
    knots = 40
    # Straight lines between knots, smooth by their second differences, and a peak that stands on them.
    x = np.linspace(0.0, 1.0, 5 * knots)
    at = x * (knots - 1)
    left = np.minimum(at.astype(int), knots - 2)
    part = at - left

    def spectrum(alpha, _):
        peak = jnp.exp(-0.5 * ((x - alpha["center"]) / 0.01) ** 2)

        def product(c):
            line = (1 - part) * c["background"][left] + part * c["background"][left + 1]
            return line + c["height"] * peak

        shape = {"background": (knots,), "height": ()}
        return lx.FunctionLinearOperator(
            product, {name: jax.ShapeDtypeStruct(one, float) for name, one in shape.items()}
        )

    def bend(c):
        return jnp.diff(c["background"], 2)

    structure = spectrum({"center": 0.4}, None).in_structure()
    penalty = vp.Tikhonov(10.0, lx.FunctionLinearOperator(bend, structure))
    clean = 2 + np.sin(5 * x) + 1.5 * np.exp(-0.5 * ((x - 0.42) / 0.01) ** 2)
    y = clean + 0.02 * np.random.default_rng(1).normal(size=x.size)
    found = vp.solve(spectrum, y, {"center": 0.41}, penalty=penalty)
    assert found.result == vp.RESULTS.successful

    rows = np.sqrt(10.0) * np.concatenate(
        [np.diff(np.eye(knots), 2, axis=0), np.zeros((knots - 2, 1))], 1
    )

    dense = matrix_of(spectrum, structure)

    def cost(center):
        return least_cost(dense({"center": center}), y, rows)

    best: Any = scipy.optimize.minimize_scalar(cost, bracket=(0.41, 0.43), tol=1e-10)
    assert abs(found.value["center"] - best.x) < 1e-6
    assert abs(found.cost / best.fun - 1) < 1e-8
    assert abs(found.coef["height"] - 1.5) < 0.05
