"""The differentiable pseudoinverse solve and projection."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint_times
from ._qr import QR


def pinv_solve(
    a: Inexact[Array, "m n"], b: Inexact[Array, "m *k"], solver: AbstractPinvSolver | None = None
) -> Inexact[Array, "n *k"]:
    """`A^+ b`, the least-squares solution of least norm, differentiable to any order.

    `c' = A^+ (b' - A' c) + (A^H A)^+ A'^H r + (I - A^+ A) A'^H A^{+H} c` with `r = b - A c`, at
    constant rank. Value and derivatives share one factorisation.

    **Arguments:**

    - `a`: matrix (m, n), real or complex.
    - `b`: right-hand side (m,) or several (m, k).
    - `solver`: `QR()` by default.

    **Returns:** the solution (n,) or (n, k). NaN in gives NaN out.

    **Raises:** `ValueError` if the shapes do not fit.
    """
    a, columns = _prepared(a, b)
    coef, _, _ = solve_and_estimate(QR() if solver is None else solver)(a, columns)
    return coef[:, 0] if jnp.ndim(b) == 1 else coef


def project_out(
    a: Inexact[Array, "m n"],
    y: Inexact[Array, "m *k"],
    solver: AbstractPinvSolver | None = None,
    jacobian: Literal["full", "kaufman"] = "full",
) -> tuple[Inexact[Array, "m *k"], Inexact[Array, "n *k"]]:
    """`r = (I - A A^+) y` and `c = A^+ y`.

    `r' = (I - A A^+)(y' - A' c) - A^{+H} A'^H r`; Kaufman (1975) drops the last term, which is
    small with the residual, from the derivative of r.

    **Arguments:** as for `pinv_solve`, and

    - `jacobian`: "full" (exact, default) or "kaufman".

    **Returns:** the residual, of the shape of y, and the coefficients (n,) or (n, k).

    **Raises:** `ValueError` if the shapes do not fit or `jacobian` is neither of the two.
    """
    if jacobian not in ("full", "kaufman"):
        raise ValueError(f"jacobian must be 'full' or 'kaufman', not {jacobian!r}.")
    a, columns = _prepared(a, y)
    resid, coef = _project_out(QR() if solver is None else solver, jacobian == "full")(a, columns)
    return (resid[:, 0], coef[:, 0]) if jnp.ndim(y) == 1 else (resid, coef)


def _prepared(a: Array, b: Array) -> tuple[Array, Array]:
    """Both in one inexact dtype, b with columns."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.ndim != 2 or b.ndim not in (1, 2) or b.shape[0] != a.shape[0]:
        raise ValueError(
            f"Expected a matrix (m, n) and a right-hand side (m,) or (m, k), but got shapes "
            f"{a.shape} and {b.shape}."
        )
    dtype = jnp.result_type(a, b, float) if not _inexact(a, b) else jnp.result_type(a, b)
    return a.astype(dtype), (b[:, None] if b.ndim == 1 else b).astype(dtype)


def _inexact(*arrays: Array) -> bool:
    return any(jnp.issubdtype(x.dtype, jnp.inexact) for x in arrays)


def solve_and_estimate(solver: AbstractPinvSolver) -> Callable:
    """The map (a, b (m, k)) -> (A^+ b, rank, cond), of which only the first is differentiable."""

    @jax.custom_jvp
    def solve(a, b):
        factor = solver.factor(a)
        return factor.pinv(b), factor.rank, factor.cond

    def rule(primals, tangents):
        a, b = primals
        t_a, t_b = tangents
        factor = _factored(solver, a)
        c = factor.pinv(b)
        v = _minus(t_b, t_a, c)
        t_c = jnp.zeros_like(c) if v is None else factor.pinv(v)
        if not isinstance(t_a, SymbolicZero):
            t_c = _add_curvature(t_c, factor, c, b - a @ c, t_a)
        still = np.zeros((), jax.dtypes.float0), jnp.zeros_like(factor.cond)
        return (c, factor.rank, factor.cond), (t_c, *still)

    solve.defjvp(rule, symbolic_zeros=True)  # pyright: ignore[reportArgumentType]
    return solve


def _project_out(solver: AbstractPinvSolver, exact: bool) -> Callable:
    @jax.custom_jvp
    def project(a, y):
        c = solver.factor(a).pinv(y)
        return y - a @ c, c

    def rule(primals, tangents):
        a, y = primals
        t_a, t_y = tangents
        factor = _factored(solver, a)
        c = factor.pinv(y)
        r = y - a @ c
        v = _minus(t_y, t_a, c)
        if v is None:
            return (r, c), (jnp.zeros_like(r), jnp.zeros_like(c))
        t_r, t_c = v - factor.onto_range(v), factor.pinv(v)
        if not isinstance(t_a, SymbolicZero):
            t_c = _add_curvature(t_c, factor, c, r, t_a)
            if exact and not factor.full_rows:
                t_r = t_r - factor.pinv_h(adjoint_times(t_a, r))
        return (r, c), (t_r, t_c)

    project.defjvp(rule, symbolic_zeros=True)
    return project


def _factored(solver: AbstractPinvSolver, a: Array) -> AbstractFactor:
    """One factorisation for value and tangents, differentiable by `a` in its turn."""
    return solver.factor(jax.lax.stop_gradient(a)).attached(a)


def _minus(t_b, t_a, c: Array) -> Array | None:
    """`b' - A' c`, or None where both tangents are zero. What is known to be zero costs nothing."""
    if isinstance(t_a, SymbolicZero):
        return None if isinstance(t_b, SymbolicZero) else t_b
    return -(t_a @ c) if isinstance(t_b, SymbolicZero) else t_b - t_a @ c


def _add_curvature(t_c: Array, factor: AbstractFactor, c: Array, r: Array, t_a: Array) -> Array:
    """Add the terms of c' beyond `A^+ (b' - A' c)`; each vanishes where A has full rank that way."""
    if not factor.full_rows:
        t_c = t_c + factor.gram_inv(adjoint_times(t_a, r))
    if not factor.full_columns:
        z = adjoint_times(t_a, factor.pinv_h(c))
        t_c = t_c + z - factor.onto_rows(z)
    return t_c
