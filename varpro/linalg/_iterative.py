"""Least squares by products alone: conjugate gradients, and iterative solvers of lineax.

For B known by `B x` and `B^H r`, of full column rank, the verb of every factor (`_factor.py`),

    x = B^+ b + (B^H B)^{-1} g          b - B x

is the minimum of `1/2 || B x - b ||^2 - Re <g, x>`. So values and derivatives need one inner solve each,
with G = B^H B known by its products, and nothing of the size of G is made.
"""

import abc
from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Inexact, Int, PyTree

from .._errors import InputError
from ._operator import FunctionPair, real_dot

Preconditioner = Callable[[Array], Array]
# How exact a solve has to be: as exact as it goes; as exact as the progress of a search is worth; or a few
# digits, for derivatives.
Accuracy = Literal["full", "progress", "jacobian"]
# Steps whose share of the cost tells how far the minimum is: conjugate gradients may stand still for some.
# Z. Strakos and P. Tichy, Electron. Trans. Numer. Anal. 13, 56 (2002).
_LAST, _LAST_PRECONDITIONED = 8, 3


class Rows(NamedTuple):
    """B, by its products with vectors: `ahead` to a pytree of vectors, `back` from one."""

    ahead: Callable[[Array], PyTree]
    back: Callable[[PyTree], Array]


class Solved(NamedTuple):
    """The x of an inner solve, what it leaves of b, and how it ended."""

    x: Inexact[Array, " n"]
    rest: PyTree
    steps: Int[Array, ""]
    converged: Bool[Array, ""]


class AbstractIterative(eqx.Module):
    """How to solve least squares by products. Holds configuration alone."""

    @abc.abstractmethod
    def least_squares(
        self,
        rows: Rows,
        b: PyTree,
        g: Inexact[Array, " n"] | None,
        x: Inexact[Array, " n"],
        precondition: Preconditioner | None,
        accuracy: Accuracy = "full",
    ) -> Solved:
        """The minimum of `1/2 || B x - b ||^2 - Re <g, x>`, sought from x."""

    @property
    def linear(self) -> "AbstractIterative":
        """The same without bounds, for derivatives."""
        return self

    def free(self, x: Inexact[Array, " n"]) -> Bool[Array, " n"] | None:
        """Which coefficients may move about the minimum x, None for all."""
        return None


def restricted(
    rows: Rows, precondition: Preconditioner | None, free: Bool[Array, " n"] | None
) -> tuple[Rows, Preconditioner | None]:
    """B and the preconditioner with the coefficients that are not free held at zero."""
    if free is None:
        return rows, precondition

    def kept(v):
        return jnp.where(free, v, jnp.zeros((), v.dtype))

    face = Rows(lambda c: rows.ahead(kept(c)), lambda u: kept(rows.back(u)))
    if precondition is None:
        return face, None
    return face, lambda v: kept(precondition(kept(v)))


class ConjugateGradients(AbstractIterative):
    """Conjugate gradients for least squares, which keep the residual itself and are as exact as LSQR.

    Each step costs one product with the operator and one with its transpose. A. Bjorck, Numerical methods
    for least squares problems (1996), algorithm 7.4.1 (CGLS).

    **Arguments:**

    - `rtol`: a solve ends when the gradient of its least squares problem is that part of the one at zero.
        By default 4e-10 in double precision, 7e-5 in single: the machine's precision to the power 0.6.
    - `max_steps`: of one solve. One that needs more has not converged, and `varpro.solve` says so.
    - `preconditioner`: `preconditioner(alpha, args, strength)` returns an approximate inverse of
        `A^H W^2 A + strength L^H L`, Hermitian and positive definite: a function of pytrees like the
        coefficients, or an operator of lineax. None by default.
    - `jacobian_rtol`: for derivatives of the residual a solve also ends when its last steps together (eight, or
        three with a preconditioner) took less than that part of the square of what is left, which is what they
        are sought for. 1e-3 by default. The gradient of the cost suffers from that error times the one of
        the coefficients, only.
    - `progress_rtol`: on the way of a search a solve also ends when its last steps together took less of the
        cost than the square of that part of what the whole solve took, so that the tolerance follows the
        search: near its end a solve begins near its own. At the end of the search the coefficients are
        solved for to `rtol`. 1e-4 by default; 0 for `rtol` throughout.
    """

    rtol: float | None = None
    max_steps: int = eqx.field(static=True, default=1000)
    preconditioner: Callable | None = None
    jacobian_rtol: float = 1e-3
    progress_rtol: float = 1e-4

    def __check_init__(self):
        for what, value in (("rtol", self.rtol), ("jacobian_rtol", self.jacobian_rtol)):
            if isinstance(value, int | float) and not 0 < value < 1:
                raise InputError(f"{what} must lie between 0 and 1, not {value}.", argument=what)
        if isinstance(self.progress_rtol, int | float) and not 0 <= self.progress_rtol < 1:
            raise InputError(
                f"progress_rtol must lie between 0 and 1, not {self.progress_rtol}.",
                argument="progress_rtol",
            )
        if not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise InputError(
                f"max_steps must be a whole number of at least 1, not {self.max_steps}.",
                argument="max_steps",
            )
        if self.preconditioner is not None and not callable(self.preconditioner):
            raise InputError(
                "preconditioner must be a function of (alpha, args, strength).",
                argument="preconditioner",
            )

    def least_squares(self, rows, b, g, x, precondition, accuracy="full"):
        """Conjugate gradients from x."""
        real = jnp.finfo(x.dtype)
        rtol = jnp.asarray(float(real.eps) ** 0.6 if self.rtol is None else self.rtol, real.dtype)
        smooth = (lambda s: s) if precondition is None else precondition
        window = _LAST if precondition is None else _LAST_PRECONDITIONED

        def slope(rest):
            s = rows.back(rest)
            return s if g is None else s + g

        def size(s):
            return jnp.sqrt(real_dot(s, s))

        goal = rtol * size(slope(b))
        rest = jax.tree.map(jnp.subtract, b, rows.ahead(x))
        s = slope(rest)
        z = smooth(s)
        zero = jnp.zeros((), real.dtype)
        # The last steps, by what each took from twice the cost; infinite before there are so many.
        taken = jnp.full(window, jnp.inf, real.dtype)
        begin = (x, rest, s, z, real_dot(s, z), taken, zero, jnp.zeros((), jnp.int32))

        def near(rest, s, taken, total):
            near = size(s) <= goal
            if accuracy == "jacobian":
                near |= jnp.sum(taken) <= self.jacobian_rtol * real_dot(rest, rest)
            if accuracy == "progress":
                near |= jnp.sum(taken) <= self.progress_rtol**2 * total
            return near

        def unfinished(state):
            _, rest, s, _, gamma, taken, total, steps = state
            # A comparison with NaN is false: gamma ends that.
            return ~near(rest, s, taken, total) & (gamma > 0) & (steps < self.max_steps)

        def step(state):
            x, rest, s, p, gamma, taken, total, steps = state
            q = rows.ahead(p)
            norm = real_dot(q, q)
            length = gamma / jnp.where(norm > 0, norm, 1.0)
            x = x + length.astype(x.dtype) * p
            rest = jax.tree.map(lambda r, q: r - length.astype(r.dtype) * q, rest, q)
            s = slope(rest)
            z = smooth(s)
            new = real_dot(s, z)
            p = z + (new / gamma).astype(z.dtype) * p
            took = length * gamma
            taken = jnp.roll(taken, 1).at[0].set(took)
            # A direction that no row sees has no end.
            return x, rest, s, p, jnp.where(norm > 0, new, 0.0), taken, total + took, steps + 1

        x, rest, s, _, _, taken, total, steps = jax.lax.while_loop(unfinished, step, begin)
        return Solved(x, rest, steps, near(rest, s, taken, total))


class OfLineax(AbstractIterative):
    """`lineax.LSMR` on B, or another solver of lineax, such as `lineax.CG`, on the normal equations."""

    solver: lx.AbstractLinearSolver

    def least_squares(self, rows, b, g, x, precondition, accuracy="full"):
        """The solve by lineax, from x; to the tolerance of that solver, whatever the accuracy."""
        if jnp.iscomplexobj(x) or any(jnp.iscomplexobj(part) for part in jax.tree.leaves(b)):
            raise InputError(
                "Iterative solvers of lineax are used for real problems alone. Give "
                "linear_solver=vp.linalg.ConjugateGradients().",
                argument="linear_solver",
            )
        structure = jax.ShapeDtypeStruct(x.shape, x.dtype)
        if isinstance(self.solver, lx.LSMR):
            tall = FunctionPair(rows.ahead, rows.back, structure)
            steps, good = jnp.zeros((), jnp.int32), jnp.array(True)
            if g is not None:
                # B^{+H} g is the shortest u with B^H u = g, and B^+ B^{+H} = (B^H B)^{-1}.
                u, result, stats = self._compute(tall.T, g, {})
                b, steps = jax.tree.map(jnp.add, b, u), steps + stats["num_steps"]
                good = good & (result == lx.RESULTS.successful)
            right = b
            found, result, stats = self._compute(tall, right, {"y0": x})
            if g is not None:
                b = jax.tree.map(jnp.subtract, b, u)
        else:
            steps, good = jnp.zeros((), jnp.int32), jnp.array(True)
            gram = FunctionPair(
                lambda v: rows.back(rows.ahead(v)), lambda v: rows.back(rows.ahead(v)), structure
            )
            operator = lx.TaggedLinearOperator(gram, lx.positive_semidefinite_tag)
            right = rows.back(b) if g is None else rows.back(b) + g
            found, result, stats = self._compute(operator, right, {"y0": x})
        # lineax's CG answers zero, and success, to a NaN.
        sound = jnp.all(jnp.isfinite(found)) & jnp.isfinite(real_dot(right, right))
        found = jnp.where(sound, found, jnp.nan)
        rest = jax.tree.map(jnp.subtract, b, rows.ahead(found))
        steps = steps + stats["num_steps"]
        return Solved(found, rest, steps, good & (result == lx.RESULTS.successful) & sound)

    def _compute(self, operator, right, options):
        return self.solver.compute(self.solver.init(operator, {}), right, options)


def as_iterative(solver: object) -> AbstractIterative | None:
    """An iterative solver, also one of lineax; None for what is none."""
    if isinstance(solver, AbstractIterative):
        return solver
    if isinstance(solver, lx.Normal) and isinstance(solver.inner_solver, lx.CG):
        return OfLineax(solver.inner_solver)
    return OfLineax(solver) if isinstance(solver, lx.CG | lx.LSMR) else None


def gram_solve(
    solver: AbstractIterative,
    rows: Rows,
    right: Inexact[Array, " n"],
    empty: PyTree,
    precondition: Preconditioner | None,
) -> Inexact[Array, " n"]:
    """`(B^H B)^{-1} right`, differentiable in `right` in either mode and of any order; `empty` is a b of
    zeros. NaN where the solver does not converge."""

    def matvec(v):
        return rows.back(rows.ahead(v))

    def solve(_, v):
        found = solver.least_squares(rows, empty, v, jnp.zeros_like(v), precondition)
        return jnp.where(found.converged, found.x, jnp.nan)

    if not jnp.iscomplexobj(right):
        return jax.lax.custom_linear_solve(matvec, right, solve, symmetric=True)
    # The transpose of a Hermitian matrix is its conjugate.
    return jax.lax.custom_linear_solve(
        matvec, right, solve, transpose_solve=lambda _, v: solve(_, v.conj()).conj()
    )
