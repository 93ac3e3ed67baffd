"""Refits with one or two quantities of a fit held at given values: what profiles are made of.

Held at v, the quantities g (parameter values, coefficients, any mixture) add a term to the reduced
cost. Of coefficients c = Phi^+ y + (free of the data) with covariance K0 = S^T (Phi^H Phi)^{-1} S the
least cost under S^T c = v is, exactly (Seber and Wild, Nonlinear Regression, 1989, appendix D),

    || (I - Phi Phi^+) y ||^2 + (g - v)^T K0^{-1} (g - v),        g = S^T Phi^+ y

A parameter value has K0 = 0. Both are held by penalty: with K = K0 + slack, slack as small as is
harmless to the condition, the minimum over alpha of the cost with K is where the penalty pull the
quantities to w = v + slack K^{-1} (g - v), and it is *exactly* the least cost under "quantities = w".
So w and that cost are one point of the profile, whatever the slack, and bounds, ties and order hold.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PyTree

from .._errors import InputError
from .._problem.columns import Assembled
from .._problem.problem import Problem
from .._reduced.abstract import AbstractReduced
from .._reduced.per_column import reduction
from .._search.minimise import Search, locate, search
from .._status import RESULTS
from .._types import ArrayIn, precision
from ..basis import without_names
from .covariance import AnyReduced
from .joint_covariance import Quantity, gradient, unit_covariance
from .quantities import noise_variance, values
from .record import Fitted

# The slack of a spring that holds a quantity, in standard errors: this power of the precision, 1e-4
# in float64. The search sees one residual as much steeper than all others.
SLACK = 0.25
# Refits in one call of the compiled program: all wait for the slowest of them.
LANES = 16
# Numbers that may be in memory for all of them, from which on there are fewer.
_MEMORY = 2**24


class _Held(eqx.Module):
    """What is held in one lane, r quantities: `rows` (r, q) of parameter values, `picks` (r, n) of
    the coefficients of right-hand sides `rhs`, at `target`, with the squares `slack`."""

    rows: Float[ArrayIn, "*l r q"]
    picks: Inexact[ArrayIn, "*l r n"]
    rhs: Int[ArrayIn, "*l r"]
    target: Float[ArrayIn, "*l r"]
    slack: Float[ArrayIn, "*l r"]

    def whitened(self, g: Float[Array, " r"], k0: Float[Array, "r r"]) -> Float[Array, " r"]:
        """`L^{-1} (g - target)` for K0 + slack = L L^T, written out for one or two."""
        e = g - self.target
        first = jnp.sqrt(k0[0, 0] + self.slack[0])
        if e.size == 1:
            return e / first
        cross = k0[1, 0] / first
        second = jnp.sqrt(k0[1, 1] + self.slack[1] - cross**2)
        head = e[0] / first
        return jnp.stack([head, (e[1] - cross * head) / second])


class _At(NamedTuple):
    """What one evaluation with penalty knows: the point without them, and its squares."""

    point: PyTree
    squares: Float[Array, ""]


class Penalised(AbstractReduced):
    """The reduced problem with penalty."""

    reduced: AnyReduced
    held: _Held

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], _At]:
        rows, point = self.reduced.evaluate(alpha)
        g, k0, _ = self.measure(alpha, point)
        return jnp.concatenate([rows, self.held.whitened(g, k0)]), _At(point, jnp.sum(rows**2))

    def jacobian(self, alpha: Float[Array, " p"], point: _At) -> Float[Array, "M p"]:
        jac = self.reduced.jacobian(alpha, point.point)
        return jnp.concatenate([jac, self._penalty(alpha, point.point)[0]])

    def rotated(self, alpha: Float[Array, " p"], point: _At) -> tuple[Array, Array]:
        jac, rows = self.reduced.rotated(alpha, point.point)
        extra, forces = self._penalty(alpha, point.point)
        return jnp.concatenate([jac, extra]), jnp.concatenate([rows, forces])

    def cost(self, alpha: Float[Array, " p"], point: _At) -> Float[Array, ""]:
        g, k0, _ = self.measure(alpha, point.point)
        return 0.5 * (point.squares + jnp.sum(self.held.whitened(g, k0) ** 2))

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        return self.reduced.data_norm(alpha)

    def rounding_factor(self, alpha: Float[Array, " p"]) -> float | None:
        return self.reduced.rounding_factor(alpha)

    def quality(self, point: _At) -> dict[str, Array]:
        return self.reduced.quality(point.point)

    def measure(
        self, alpha: Float[Array, " p"], point: PyTree
    ) -> tuple[Float[Array, " r"], Float[Array, "r r"], Inexact[Array, "n r"]]:
        """The quantities g, their K0, and `z = (Phi^H Phi)^{-1} s`."""
        held, columns = self.held, self.reduced.problem.columns
        assert isinstance(columns, Assembled)
        picked = jnp.sum(held.picks * point.coef[:, held.rhs].T, axis=1).real
        g = jnp.asarray(held.rows @ columns.values(alpha) + picked)
        scale = point.factor.scale[:, None]
        z = point.factor.gram_inv(held.picks.conj().T / scale) / scale
        return g, (held.picks @ z).real * self._together, z

    @property
    def _together(self) -> Float[Array, "r r"]:
        # Coefficients of different right-hand sides do not meet in (Phi^H Phi)^{-1}.
        same = self.held.rhs[:, None] == self.held.rhs
        return same.astype(self.held.target.dtype)

    def _penalty(self, alpha: Float[Array, " p"], point: PyTree) -> tuple[Array, Array]:
        """Jacobian (r, p) and residual (r,) of the penalty."""
        held, problem = self.held, self.reduced.problem
        columns = problem.columns
        assert isinstance(columns, Assembled)
        g, k0, z = self.measure(alpha, point)
        # With a = Phi z:   s^T c' = a^H (y' - Phi' c) + (Phi' z)^H r
        #                   k0' = -(Phi' z)^H a - a^H Phi' z
        phi = problem.phi(alpha)
        coef = point.coef[:, held.rhs]
        resid = problem.target(alpha)[:, held.rhs].astype(phi.dtype) - phi @ coef
        a, r = phi @ z, held.target.size
        moved, _ = problem.apply_derivative(alpha, jnp.concatenate([coef, z], axis=1))
        v, w = -moved[:, :r], moved[:, r:]
        tangent = problem.target_derivative(alpha)
        if tangent is not None:
            v = v + tangent[:, None, :]
        t_g = jnp.einsum("mr,mrp->pr", a.conj(), v) + jnp.einsum("mrp,mr->pr", w.conj(), resid)
        t_g = t_g.real + (held.rows @ jax.jacfwd(columns.values)(alpha)).T
        t_k = jnp.einsum("mip,mj->pij", w.conj(), a)
        t_k = -(t_k + t_k.conj().transpose(0, 2, 1)).real * self._together
        _, jac = jax.vmap(lambda *t: jax.jvp(held.whitened, (g, k0), t))(t_g, t_k)
        return jac.T, held.whitened(g, k0)

    def answer(
        self, alpha: Float[Array, " p"], at: _At
    ) -> tuple[Float[Array, " r"], Float[Array, ""], Inexact[Array, "n k"]]:
        """Where the quantities are pulled to, the least chi-square with them there, and the
        coefficients that it has."""
        held = self.held
        g, k0, z = self.measure(alpha, at.point)
        # The force K^{-1} (g - v) is the gradient of the energy of the penalty.
        force = jax.grad(lambda g: 0.5 * jnp.sum(held.whitened(g, k0) ** 2))(g)
        coef = at.point.coef.at[:, held.rhs].add(-(z * force.astype(z.dtype)))
        return held.target + held.slack * force, at.squares + force @ k0 @ force, coef


class Refits(NamedTuple):
    """Profile points, arrays over lanes: where the quantities are (L, r), the chi-square with
    priors, the free coordinates (L, p), the parameter values (L, q), coefficients (L, n, k) in the
    order of the user, and whether the search converged to numbers."""

    held: np.ndarray
    chisq: np.ndarray
    alpha: np.ndarray
    values: np.ndarray
    coef: np.ndarray
    ok: np.ndarray


class RefitProblem(NamedTuple):
    """What it takes to search anew for the optimum of a fit; `limits` are None without bounds."""

    problem: Problem
    limits: tuple[ArrayIn | None, ArrayIn | None]
    how: Search


def needs_optimum(fit: Fitted, what: str) -> None:
    """Refuse a fit that cannot be refitted, or that says nothing of its noise."""
    if fit.pooled is not None:
        raise InputError(
            f"A {what} refits all data, and this is one data set of a global fit. Use intervals by "
            "covariance."
        )
    if not fit.success:
        raise InputError(f"A {what} starts from a minimum, and this fit has none: {fit.message}")
    noise = noise_variance(fit)
    if not (np.isfinite(noise) and noise > 0):
        raise InputError(
            "The residual gives no estimate of the noise (no degrees of freedom, or a perfect fit), "
            f"so there is no {what}. Give sigma with absolute_sigma=True."
        )


def refit_problem(fit: Fitted) -> RefitProblem:
    """The problem of a fit and its default search, as host arrays of the precision of the fit."""
    optimum, dtype = fit.optimum, fit.alpha.dtype
    columns = Assembled(
        without_names(fit.model), without_names(fit.layout), optimum.numbers, fit.x, optimum.priors
    )
    differ = fit.weights is not None and fit.weights.ndim == 2
    weights, column_weights = (None, fit.weights) if differ else (fit.weights, None)
    y = fit.y.reshape(len(fit.y), -1)
    problem = Problem(columns, y, weights, without_names(fit.linear), column_weights)
    how = jax.tree.map(lambda a: np.asarray(a, dtype) if isinstance(a, float) else a, search())
    bounded = bool(np.isfinite(optimum.lower).any() or np.isfinite(optimum.upper).any())
    return RefitProblem(problem, (optimum.lower, optimum.upper) if bounded else (None, None), how)


def lanes(problem: Problem, most: int) -> int:
    """How many searches may run at once: `most`, or fewer of large data."""
    return int(np.clip(_MEMORY // max(problem.y.size * 4, 1), 1, most))


class ConstrainedRefits(eqx.Module):
    """Refits of `fit` that hold `chosen`; each lane holds one of `groups` of them."""

    fit: Fitted
    refit_problem: RefitProblem
    groups: tuple[tuple[Quantity, ...], ...]
    unit: np.ndarray  # (groups, r), a standard error of each or what stands for it
    noise: float
    start: np.ndarray  # (groups, r), their values in the fit
    ahead: np.ndarray  # (groups, p, r), how alpha moves with them

    def refit(self, which: np.ndarray, target: np.ndarray, alpha: np.ndarray | None) -> Refits:
        """Refit lanes `which` (L,) with their quantities at `target` (L, r), from `alpha` (L, p) or
        from where the covariance says that the optimum is."""
        optimum, dtype = self.fit.optimum, self.fit.alpha.dtype
        step = np.einsum("lpr,lr->lp", self.ahead[which], target - self.start[which])
        begin = np.asarray(optimum.alpha) + step if alpha is None else alpha
        first = np.clip(begin, np.asarray(optimum.lower), np.asarray(optimum.upper)).astype(dtype)
        width = lanes(self.refit_problem.problem, LANES)
        held = [self._held(g, t) for g, t in zip(which.tolist(), target, strict=True)]
        parts = []
        with precision(self.fit.alpha.dtype):
            for i in range(0, len(held), width):
                some = list(range(i, min(i + width, len(held))))
                some += some[:1] * (width - len(some))  # the program has one shape
                stack = jax.tree.map(lambda *a: np.stack(a), *(held[j] for j in some))
                out = _refit(self.refit_problem, stack, first[some])
                parts.append(jax.device_get(out))
        joined = jax.tree.map(lambda *a: np.concatenate(a)[: len(held)], *parts)
        at, chisq, ended, values, coef, ok = joined
        at, chisq = at.astype(float), chisq.astype(float)
        return Refits(at, chisq, ended, values, coef[:, list(self.fit.model.order)], ok)

    def _held(self, group: int, target: np.ndarray) -> _Held:
        chosen, dtype = self.groups[group], self.fit.alpha.dtype
        linear = self.fit.linear
        r, q, n = len(chosen), len(self.fit.names), len(linear.sought or self.fit.columns)
        rows, picks = np.zeros((r, q), dtype), np.zeros((r, n), self.fit.coef.dtype)
        for i, one in enumerate(chosen):
            if one.rhs is None:
                rows[i, one.index] = 1.0
            else:
                picks[i, one.index] = -1j if one.imag else 1.0
        rhs = np.array([one.rhs or 0 for one in chosen], np.int32)
        slack = float(np.finfo(dtype).eps) ** SLACK * self.unit[group]
        slack = (slack**2 / self.noise).astype(dtype)
        return _Held(rows, picks, rhs, target.astype(dtype), slack)


def constrained_refits(fit: Fitted, groups: Sequence[Sequence[Quantity]]) -> ConstrainedRefits:
    """Make ready to refit `fit` with one group of quantities held at a time, all of one size."""
    optimum = fit.optimum
    if fit.linear.sought and any(one.rhs is not None for group in groups for one in group):
        raise InputError(
            "The coefficients of this fit have bounds, relations or penalties, so a profile can hold "
            "nonlinear parameters alone. Use intervals by covariance or bootstrap for coefficients."
        )
    if fit.weights is not None and fit.weights.ndim == 2:
        raise InputError(
            "There is no profile of a fit whose right-hand sides have weights of their own. Use "
            "intervals by covariance."
        )
    unit, start, ahead = [], [], []
    noise = noise_variance(fit)
    for group in groups:
        variance = unit_covariance(optimum, group)
        error, at = np.sqrt(np.diag(variance) * noise), values(fit, group)
        known = np.isfinite(error) & (error > 0)
        unit.append(np.where(known, error, 1e-3 * np.where(at == 0, 1.0, np.abs(at))))
        start.append(at)
        # The optimum moves along cov(alpha, g) cov(g)^{-1}.
        rows = gradient(optimum, group) @ np.asarray(optimum.blocks.half, float).T
        along = np.asarray(optimum.blocks.half, float).T @ rows.T
        if np.all(known):
            ahead.append(along @ np.linalg.pinv(variance))
        else:
            ahead.append(np.zeros_like(along))
    return ConstrainedRefits(
        fit,
        refit_problem(fit),
        tuple(tuple(g) for g in groups),
        np.array(unit),
        noise,
        np.array(start),
        np.array(ahead).reshape(len(groups), optimum.alpha.size, len(groups[0])),
    )


@eqx.filter_jit
def _refit(
    refit_problem: RefitProblem, held: _Held, alpha: Float[ArrayIn, "l p"]
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """One program for every lane of every profile of a fit: nothing here but shapes is static."""
    problem, limits, how = refit_problem
    columns = problem.columns
    assert isinstance(columns, Assembled)
    reduced = reduction(problem, how.linear_solver, how.jacobian)

    def one(held, alpha):
        pulled = Penalised(reduced, held)
        alpha, found, point = locate(pulled, limits, alpha, how)
        at, chisq, coef = pulled.answer(alpha, point)
        ok = (found.result == RESULTS.successful) & jnp.isfinite(chisq) & jnp.all(jnp.isfinite(at))
        coef = jnp.asarray(problem.linear.all_of(coef))
        return at, chisq, alpha, columns.values(alpha), coef, ok

    return jax.vmap(one)(held, jnp.asarray(alpha))
