"""The programs of fits lower for accelerators that are not here: nothing in them is bound to the CPU."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp
from varpro._programs import program as programs

PLATFORMS = ("cuda", "rocm", "tpu")
T = np.linspace(0.0, 5.0, 30)
Y = 3 * np.exp(-T / 1.2) + 0.5
MODEL = vp.Exp("a", tau=1.0) + vp.Constant("bg")


def basis(alpha, t):
    return jnp.stack([jnp.exp(-t / alpha[0]), jnp.ones_like(t)], axis=1)


def solved(linear_solver):
    return lambda y, t: vp.solve(basis, y, jnp.ones(1), t, linear_solver=linear_solver).coef


SOLVES = {
    "svd": (solved(vp.linalg.SVD()), Y),
    "qr": (solved(vp.linalg.QR()), Y),
    "many columns": (solved(vp.linalg.SVD()), np.tile(Y[:, None], 5)),
    "gradient": (jax.grad(lambda y, t: jnp.sum(solved(vp.linalg.SVD())(y, t))), Y),
}


# Kernels of GPU libraries without a promise across versions of jaxlib, which is not asked for here.
KERNELS = [
    jax.export.DisabledSafetyCheck.custom_call(f"{library}_{kernel}_ffi")
    for library in ("cusolver", "hipsolver", "cublas", "hipblas", "magma", "hybrid")
    for kernel in ("ormqr", "geqrf", "orgqr", "gesvd", "gesvdj", "gesvdp")
] + [jax.export.DisabledSafetyCheck.custom_call(f"{gpu}hybrid_geqp3") for gpu in ("cu", "hip")]


def lowers(function, arrays, platform):
    """Export for a platform: what has no lowering there is a `NotImplementedError` or a `ValueError`."""
    export = jax.export.export(jax.jit(function), platforms=[platform], disabled_checks=KERNELS)
    exported = export(*arrays)
    assert exported.platforms == (platform,)
    # A call of LAPACK is one that no other platform has.
    assert "lapack" not in exported.mlir_module()


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", SOLVES)
def test_solve_lowers(name, platform):
    function, y = SOLVES[name]
    lowers(function, (y, T), platform)


@pytest.mark.parametrize("platform", ["cuda", "rocm"])
def test_pivoted_qr_lowers_for_gpus(platform):
    lowers(solved(vp.linalg.PivotedQR()), (Y, T), platform)


def test_pivoted_qr_says_that_tpus_have_none():
    with pytest.raises(
        (NotImplementedError, ValueError), match="(?i)geqp3|tpu|not supported|lowering"
    ):
        lowers(solved(vp.linalg.PivotedQR()), (Y, T), "tpu")


class Caught(Exception):
    """A program at the moment at which it would be compiled."""


FITS = {
    "one curve": lambda: vp.fit(MODEL, T, Y),
    "many right-hand sides": lambda: vp.fit(MODEL, T, np.tile(Y[:, None], 5)),
    "bounds of coefficients": lambda: vp.fit(MODEL, T, Y, nonnegative=True),
    "several data sets": lambda: vp.fit(MODEL, {"a": (T, Y), "b": (T[:9], Y[:9])}, share="all"),
    "many curves": lambda: vp.fit_many(MODEL, T, np.tile(Y, (9, 1))),
    "counts": lambda: vp.fit_many(MODEL, T, np.tile(np.round(99 * Y), (9, 1)), noise="poisson"),
}


@pytest.mark.parametrize("name", FITS)
def test_the_programs_of_fits_lower(name, monkeypatch):
    caught = []

    def made(self, args, arrays, treedef, others, full):
        caught.append((self.flat(treedef, others)[0], arrays))
        raise Caught

    monkeypatch.setattr(programs.Jitted, "_made", made)
    programs.clear()
    with pytest.raises(Caught):
        FITS[name]()
    ((function, arrays),) = caught
    for platform in PLATFORMS:
        lowers(function, arrays, platform)
