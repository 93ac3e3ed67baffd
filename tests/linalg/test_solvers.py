"""Every solver on every shape, rank and dtype, by every transform, against a dense twin."""

import functools

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import zoo

from varpro.linalg import QR, SVD, Normal, PivotedQR, Small, pinv_solve, project_out

FULL_RANK = {
    "QR": QR(),
    "Normal": Normal(),
    "NormalCG": Normal(lx.CG(rtol=1e-15, atol=1e-15, max_steps=50)),
}
ANY_RANK = {"PivotedQR": PivotedQR(), "SVD": SVD(), "Small": Small()}
SOLVERS = FULL_RANK | ANY_RANK


def _along(solver, arrays, t):
    a, b = zoo.at(arrays, t)
    c = pinv_solve(a, b, solver)
    r, c_too = project_out(a, b, solver)
    kaufman, _ = project_out(a, b, solver, jacobian="kaufman")
    return {"c": c, "c_too": c_too, "r": r, "kaufman": kaufman}


def _cost(solver, arrays, t):
    # Both outputs, so that the derivative of the projection counts too. `pinv_solve` differentiates the
    # same function of any factor; of one its own result stands here.
    a, b = zoo.at(arrays, t)
    r, c = project_out(a, b, solver)
    c = pinv_solve(a, b, solver) if isinstance(solver, QR | PivotedQR) else c
    return jnp.sum(jnp.abs(c) ** 2) + jnp.sum(r.real**3)


@functools.cache
def _transforms(name, every):
    solver = SOLVERS[name]

    def measured(arrays):
        zero = jnp.zeros((), arrays[0].real.dtype)
        one = jnp.ones_like(zero)
        along = functools.partial(_along, solver, arrays)
        cost = functools.partial(_cost, solver, arrays)
        value, slope = jax.jvp(along, (zero,), (one,))
        # The gradient comes with its derivative: they share what they have in common.
        grad, hessian = jax.jvp(jax.grad(cost), (zero,), (one,))
        found = {"value": value, "jvp": slope, "vjp": grad, "jvp(grad)": hessian}
        if every:
            found["jvp(jvp)"] = jax.jvp(lambda t: jax.jvp(cost, (t,), (one,))[1], (zero,), (one,))[
                1
            ]
            found["grad(jvp)"] = jax.grad(lambda t: jax.jvp(cost, (t,), (one,))[1])(zero)
        return found

    # Compiling is the time of these tests, and none of them asks for fast code.
    return jax.jit(measured, compiler_options={"xla_llvm_disable_expensive_passes": True})


def _expected(arrays, rank):
    arrays = [x.astype(np.result_type(x, np.float64)) for x in arrays]
    zero = np.linalg.pinv(zoo.at(arrays, 0.0)[0]).astype(arrays[0].dtype) * 0

    def pinv(a):
        return np.linalg.pinv(a, rcond=1e-4) if rank else zero

    def along(t):
        a, b = zoo.at(arrays, t)
        c = pinv(a) @ b
        return {"c": c, "r": b - a @ c}

    def cost(t):
        x = along(t)
        return np.sum(np.abs(x["c"]) ** 2) + np.sum(x["r"].real ** 3)

    a, value = zoo.at(arrays, 0.0)[0], along(0.0)
    slope = {key: zoo.first_derivative(lambda t, k=key: along(t)[k]) for key in value}
    t_a = zoo.first_derivative(lambda t: zoo.at(arrays, t)[0])
    t_b = zoo.first_derivative(lambda t: zoo.at(arrays, t)[1])
    moved = t_b - t_a @ value["c"]
    grad, hessian = zoo.first_derivative(cost), zoo.second_derivative(cost)
    return {
        "value": {**value, "c_too": value["c"], "kaufman": value["r"]},
        "jvp": {**slope, "c_too": slope["c"], "kaufman": moved - a @ (pinv(a) @ moved)},
        "vjp": grad,
        "jvp(grad)": hessian,
        "jvp(jvp)": hessian,
        "grad(jvp)": hessian,
    }


def _ranks(name, shape):
    small = min(zoo.SHAPES[shape])
    # A zero matrix is a deficient rank too.
    return [small] if name in FULL_RANK else sorted({0, small - 1, small})


CASES = [
    (name, shape, dtype)
    for name in SOLVERS
    for shape in zoo.SHAPES
    for dtype in ("float64", "complex128")
    # Real wide matrices have the rules of complex ones, and the kernels of real tall ones.
    if dtype == "complex128" or shape == "tall"
] + [
    (name, shape, dtype)
    for name in SOLVERS
    for shape, dtype in [("tall", "float32"), ("wide", "complex64")]
]
# The rules of NormalCG are those of Normal, of whose two solves it makes iterations.
CASES = [
    (name, shape, dtype)
    for name, shape, dtype in CASES
    if name != "NormalCG" or (dtype == "complex128" and shape in ("tall", "square", "wide"))
]


@pytest.mark.parametrize(("name", "shape", "dtype"), CASES)
def test_values_and_derivatives_of_every_order_equal_those_of_a_dense_pseudoinverse(
    name, shape, dtype
):
    double = np.dtype(dtype).itemsize >= 8 and dtype not in ("complex64",)
    # The order of second derivatives matters to the rules of a factor, of which there is one for tall
    # and one for wide matrices.
    every = dtype == "complex128" and shape in ("tall", "wide")
    for rank in _ranks(name, shape):
        for repeated in (False, True):
            arrays = zoo.curve(zoo.SHAPES[shape], rank, np.dtype(dtype), repeated=repeated).arrays
            found = _transforms(name, every)(tuple(map(jnp.asarray, arrays)))
            expected = _expected(arrays, rank)
            for transform in found:
                want = expected[transform]
                if transform in ("value", "jvp"):
                    pairs = [(key, found[transform][key], want[key]) for key in want]
                else:
                    pairs = [("cost", found[transform], want)]
                for key, x, y in pairs:
                    scale = max(1.0, float(np.max(np.abs(y))))
                    error = float(np.max(np.abs(np.asarray(x) - y))) / scale
                    where = f"{transform} of {key} at rank {rank}, repeated={repeated}: {error:.1e}"
                    assert error < (1e-9 if double else 2e-3), where
