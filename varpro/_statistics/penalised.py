"""A reduced problem in which some numbers of a fit are held by penalties.

Held at v, the quantities g (parameter values, coefficients, any mixture) add a term to the reduced
cost. Of coefficients c = Phi^+ y + (free of the data) with covariance K0 = S^T (Phi^H Phi)^{-1} S the
least cost under S^T c = v is, exactly (Seber and Wild, Nonlinear Regression, 1989, appendix D),

    || (I - Phi Phi^+) y ||^2 + (g - v)^T K0^{-1} (g - v),        g = S^T Phi^+ y

A parameter value has K0 = 0. Both are held by penalty: with K = K0 + slack, slack as small as is
harmless to the condition, the minimum over alpha of the cost with K is where the penalty pull the
quantities to w = v + slack K^{-1} (g - v), and it is *exactly* the least cost under "quantities = w".
So w and that cost are one point of the profile, whatever the slack, and bounds, ties and order hold.

A derived number h(values, c) is held with the coefficients that it takes as further coordinates gamma:
the least cost with c = gamma is the one above with v = gamma and no slack, and (h - v)^2 / slack is
added to it. Its minimum over alpha and gamma is the least cost where h is what it has become there.

Of several data sets each coefficient is one of a single data set, whose part of the problem is looked at.
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PyTree

from .._errors import InputError
from .._problem.columns import Assembled
from .._reduced.abstract import AbstractReduced
from .._reduced.by_group import AnyReduced, ByGroup
from .._reduced.coupled import Coupled
from .._reduced.multi_dataset import Several
from .._types import ArrayIn
from .derivation import Named, Recipe


class Look(eqx.Module):
    """What is held of the coefficients of one data set: the one at `place` in stack `stack` of those of one
    shape. `picks` (r, n): of each of the r quantities the share in the sought coefficients of its right-hand
    side, zero for what is held of others."""

    picks: Inexact[ArrayIn, "*l r n"]
    place: Int[ArrayIn, "*l"]
    stack: int = eqx.field(static=True, default=0)


class Held(eqx.Module):
    """What is held in one lane, r quantities: `rows` (r, q) of parameter values, `looks` at coefficients of
    right-hand sides `rhs`, at `target`, with the squares `slack`; and the bounds of the coefficients of each
    stack, where some are held by them."""

    rows: Float[ArrayIn, "*l r q"]
    looks: tuple[Look, ...]
    rhs: Int[ArrayIn, "*l r"]
    target: Float[ArrayIn, "*l r"]
    slack: Float[ArrayIn, "*l r"]
    bounds: tuple[tuple[ArrayIn, ArrayIn] | None, ...] | None = None

    def whitened(self, g: Float[Array, " r"], k0: Float[Array, "r r"]) -> Float[Array, " r"]:
        """`L^{-1} (g - target)` for K0 + slack = L L^T."""
        return whitened(g - self.target, k0 + jnp.diag(self.slack))


def whitened(e: Float[Array, " r"], k: Float[Array, "r r"]) -> Float[Array, " r"]:
    """`L^{-1} e` for K = L L^T, written out for one or two: they are most."""
    if e.size > 2:
        return jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(k), e, lower=True)
    if e.size == 0:
        return e
    first = jnp.sqrt(k[0, 0])
    if e.size == 1:
        return e / first
    cross = k[1, 0] / first
    second = jnp.sqrt(k[1, 1] - cross**2)
    head = e[0] / first
    return jnp.stack([head, (e[1] - cross * head) / second])


class Measured(NamedTuple):
    """The quantities g, their K0, and for each look `z = (Phi^H Phi)^{-1} s`."""

    g: Float[Array, " r"]
    k0: Float[Array, "r r"]
    z: tuple[Inexact[Array, "n r"], ...]


class _At(NamedTuple):
    """What one evaluation with penalty knows: the point without them, and its squares, and the
    quantities that are held there."""

    point: PyTree
    squares: Float[Array, ""]
    known: Measured


class _View(NamedTuple):
    """A data set at one point: its reduced problem, its coordinates and the derivative (f, p) of these by
    alpha, None where they are alpha; and what an evaluation knows of it."""

    look: Look
    reduced: AnyReduced
    local: Float[Array, " f"]
    moves: Float[Array, "f p"] | None
    point: PyTree


def values_of(reduced: Any) -> Callable[[Array], Array]:
    """All parameter values as a function of alpha."""
    if isinstance(reduced, Several):
        return reduced.values
    columns = reduced.problem.columns
    assert isinstance(columns, Assembled)
    return columns.values


def _views(reduced: Any, looks: Sequence[Look], alpha: Array, point: PyTree) -> Iterator[_View]:
    if not isinstance(reduced, Several):
        for look in looks:
            yield _View(look, reduced, alpha, None, point)
        return
    full, transform = reduced.values(alpha), jax.jacfwd(reduced.values)(alpha)
    for look in looks:

        def here(a: Any, look: Look = look) -> Any:
            return a[look.place] if eqx.is_array(a) else a

        stack = reduced.stacks[look.stack]
        arrays = jax.tree.map(lambda a: jnp.asarray(a) if hasattr(a, "dtype") else a, stack.problem)
        picks = jnp.asarray(stack.picks)[look.place]
        mine, local = reduced.restricted(stack, jax.tree.map(here, arrays), full[picks])
        moves = transform[picks[np.array(stack.free, int)]]
        yield _View(look, mine, local, moves, jax.tree.map(here, point[look.stack][0]))


def measure(reduced: Any, held: Any, alpha: Float[Array, " p"], point: PyTree) -> Measured:
    """The quantities that are held, where they are without penalty."""
    g = held.rows @ values_of(reduced)(alpha)
    # Coefficients of different right-hand sides do not meet in (Phi^H Phi)^{-1}.
    same = (held.rhs[:, None] == held.rhs).astype(g.dtype)
    k0, found = jnp.zeros_like(same), []
    for view in _views(reduced, held.looks, alpha, point):
        picks, at = view.look.picks, view.point
        if isinstance(view.reduced, Coupled):
            raise InputError(
                "There is no profile of a number that takes coefficients of a fit with equal_areas. Use intervals by "
                "covariance."
            )
        if isinstance(view.reduced, ByGroup):
            raise InputError(
                "There is no profile of a number that takes coefficients of a fit with dispersion. Use intervals "
                "by covariance."
            )
        g = g + jnp.sum(picks * at.coef[:, held.rhs].T, axis=1).real
        scale = at.factor.scale[:, None]
        z = at.factor.gram_inv(picks.conj().T / scale) / scale
        k0 = k0 + (picks @ z).real * same
        found.append(z)
    return Measured(g, k0, tuple(found))


def slopes(
    reduced: Any, held: Any, alpha: Float[Array, " p"], point: PyTree, known: Measured
) -> tuple[Float[Array, "p r"], Float[Array, "p r r"]]:
    """Derivatives of g and of K0 by alpha."""
    # With a = Phi z:   s^T c' = a^H (y' - Phi' c) + (Phi' z)^H r
    #                   k0' = -(Phi' z)^H a - a^H Phi' z
    t_g = (held.rows @ jax.jacfwd(values_of(reduced))(alpha)).T
    r = held.rhs.size
    same = (held.rhs[:, None] == held.rhs).astype(t_g.dtype)
    t_k = jnp.zeros((alpha.size, r, r), t_g.dtype)
    for view, z in zip(_views(reduced, held.looks, alpha, point), known.z, strict=True):
        problem, local = view.reduced.problem, view.local
        phi = problem.phi(local)
        coef = view.point.coef[:, held.rhs]
        resid = problem.target(local)[:, held.rhs].astype(phi.dtype) - phi @ coef
        a = phi @ z
        moved, _ = problem.apply_derivative(local, jnp.concatenate([coef, z], axis=1))
        v, w = -moved[:, :r], moved[:, r:]
        tangent = problem.target_derivative(local)
        if tangent is not None:
            v = v + tangent[:, None, :]
        own_g = jnp.einsum("mr,mrf->fr", a.conj(), v) + jnp.einsum("mrf,mr->fr", w.conj(), resid)
        own_k = jnp.einsum("mif,mj->fij", w.conj(), a)
        own_k = -(own_k + own_k.conj().transpose(0, 2, 1)).real * same
        if view.moves is None:
            t_g, t_k = t_g + own_g.real, t_k + own_k
        else:
            t_g = t_g + view.moves.T @ own_g.real
            t_k = t_k + jnp.einsum("fp,fij->pij", view.moves, own_k)
    return t_g, t_k


def pulled_coefficients(
    reduced: Any, held: Any, point: PyTree, known: Measured, force: Float[Array, " r"]
) -> list[Array]:
    """Sought coefficients of each stack of data sets (d, n, k), or (n, k) of a single one, as what is held
    pulls them."""
    several = isinstance(reduced, Several)
    coefs = [at.coef for at, _ in point] if several else [point.coef]
    for look, z in zip(held.looks, known.z, strict=True):
        pull = z * force.astype(z.dtype)
        if several:
            mine = coefs[look.stack][look.place].at[:, held.rhs].add(-pull)
            coefs[look.stack] = coefs[look.stack].at[look.place].set(mine)
        else:
            coefs[0] = coefs[0].at[:, held.rhs].add(-pull)
    return coefs


class _AbstractPenalised(AbstractReduced):
    """What all reduced problems with penalties have in common."""

    reduced: eqx.AbstractVar[Any]
    held: eqx.AbstractVar[Any]

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        return self.reduced.data_norm(self.inner(alpha))

    def rounding_factor(self, alpha: Float[Array, " p"]) -> float | None:
        return self.reduced.rounding_factor(self.inner(alpha))

    def quality(self, point: _At) -> dict[str, Array]:
        return self.reduced.quality(point.point)

    def inner(self, alpha: Float[Array, " p"]) -> Float[Array, " p"]:
        """The coordinates of the problem without penalty."""
        return alpha

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], _At]:
        inner = self.inner(alpha)
        rows, point = self.reduced.evaluate(inner)
        known = measure(self.reduced, self.held, inner, point)
        extra = self.penalties(alpha, known)
        return jnp.concatenate([rows, extra]), _At(point, jnp.sum(rows**2), known)

    def jacobian(self, alpha: Float[Array, " p"], point: _At) -> Float[Array, "M p"]:
        jac = self.reduced.jacobian(self.inner(alpha), point.point)
        return self._below(jac, self.penalty_jacobian(alpha, point))

    def rotated(self, alpha: Float[Array, " p"], point: _At) -> tuple[Array, Array]:
        jac, rows = self.reduced.rotated(self.inner(alpha), point.point)
        extra = self.penalties(alpha, point.known)
        jac = self._below(jac, self.penalty_jacobian(alpha, point))
        return jac, jnp.concatenate([rows, extra])

    def _below(self, jac: Array, extra: Array) -> Array:
        more = extra.shape[1] - jac.shape[1]
        wide = jnp.concatenate([jac, jnp.zeros((jac.shape[0], more), jac.dtype)], axis=1)
        return jnp.concatenate([wide, extra])

    def cost(self, alpha: Float[Array, " p"], point: _At) -> Float[Array, ""]:
        return 0.5 * (point.squares + jnp.sum(self.penalties(alpha, point.known) ** 2))

    @abc.abstractmethod
    def penalties(self, alpha: Float[Array, " p"], known: Measured) -> Float[Array, " e"]:
        """The residuals of the penalties."""

    @abc.abstractmethod
    def penalty_jacobian(self, alpha: Float[Array, " p"], at: _At) -> Float[Array, "e p"]:
        """Their derivative."""


class Penalised(_AbstractPenalised):
    """The reduced problem with quantities held at their targets."""

    reduced: Any
    held: Held

    def penalties(self, alpha, known):
        return self.held.whitened(known.g, known.k0)

    def penalty_jacobian(self, alpha, at):
        tangents = slopes(self.reduced, self.held, alpha, at.point, at.known)
        there = (at.known.g, at.known.k0)
        return jax.vmap(lambda *t: jax.jvp(self.held.whitened, there, t)[1])(*tangents).T

    def answer(
        self, alpha: Float[Array, " p"], at: _At
    ) -> tuple[Float[Array, " r"], Float[Array, ""], list[Array]]:
        """Where the quantities are pulled to, the least chi-square with them there, and the
        coefficients that it has."""
        held, known = self.held, at.known
        # The force K^{-1} (g - v) is the gradient of the energy of the penalty.
        force = jax.grad(lambda g: 0.5 * jnp.sum(held.whitened(g, known.k0) ** 2))(known.g)
        coefs = pulled_coefficients(self.reduced, held, at.point, known, force)
        return held.target + held.slack * force, at.squares + force @ known.k0 @ force, coefs


class Numbered(eqx.Module):
    """Derived numbers as a function of parameter values and of r coefficients gamma, real and imaginary parts
    apart: those that `asked` makes and `names` calls. `mixes`: of each data set the constant (N,) and the
    matrix (N, r) that make its coefficients of these; `picks`: the places of its parameters among all."""

    models: Named
    asked: Recipe
    mixes: tuple[tuple[ArrayIn, ArrayIn], ...]
    names: tuple[str, ...] = eqx.field(static=True)
    picks: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __call__(self, values: Float[Array, " q"], gamma: Float[Array, " r"]) -> Float[Array, " R"]:
        """All numbers."""
        coefs = [jnp.asarray(c) + jnp.asarray(m) @ gamma.astype(m.dtype) for c, m in self.mixes]
        out = self.asked(self.models.numbers([values[np.array(p, int)] for p in self.picks], coefs))
        return jnp.stack([jnp.asarray(out[name], values.dtype) for name in self.names])


class HeldNumber(eqx.Module):
    """A derived number that is held in one lane, the one at `index`: its `target`, with the square `slack`.
    `rows` (all zero), `looks` and `rhs` are those of the r coefficients that it takes."""

    rows: Float[ArrayIn, "*l r q"]
    looks: tuple[Look, ...]
    rhs: Int[ArrayIn, "*l r"]
    target: Float[ArrayIn, "*l"]
    slack: Float[ArrayIn, "*l"]
    index: Int[ArrayIn, "*l"]


class PenalisedNumber(_AbstractPenalised):
    """The reduced problem with a derived number held at its target. Coordinates: those of the problem, then
    the coefficients gamma that the number takes."""

    reduced: Any
    held: HeldNumber
    numbers: Numbered

    def inner(self, alpha):
        return alpha[: alpha.size - self.held.rhs.size]

    def _gamma(self, alpha: Array) -> Array:
        return alpha[alpha.size - self.held.rhs.size :]

    def _number(self, alpha: Array) -> Array:
        values = values_of(self.reduced)(self.inner(alpha))
        return self.numbers(values, self._gamma(alpha))[self.held.index]

    def _spring(self, alpha: Array) -> Array:
        return ((self._number(alpha) - self.held.target) / jnp.sqrt(self.held.slack))[None]

    def penalties(self, alpha, known):
        apart = whitened(known.g - self._gamma(alpha), known.k0)
        return jnp.concatenate([apart, self._spring(alpha)])

    def penalty_jacobian(self, alpha, at):
        inner, gamma, known = self.inner(alpha), self._gamma(alpha), at.known
        tangents = slopes(self.reduced, self.held, inner, at.point, known)

        def apart(g, k0, gamma):
            return whitened(g - gamma, k0)

        there, none = (known.g, known.k0, gamma), jnp.zeros_like(gamma)
        by_inner = jax.vmap(lambda *t: jax.jvp(apart, there, (*t, none))[1])(*tangents).T
        by_gamma = jax.jacfwd(apart, 2)(*there)
        rows = jnp.concatenate([by_inner, by_gamma], axis=1)
        return jnp.concatenate([rows, jax.jacfwd(self._spring)(alpha)])

    def answer(
        self, alpha: Float[Array, " p"], at: _At
    ) -> tuple[Float[Array, "1"], Float[Array, ""], list[Array]]:
        """What the number has become, the least chi-square with it there, and the coefficients."""
        gamma, known = self._gamma(alpha), at.known

        def energy(g):
            return 0.5 * jnp.sum(whitened(g - gamma, known.k0) ** 2)

        force = jax.grad(energy)(known.g)
        coefs = pulled_coefficients(self.reduced, self.held, at.point, known, force)
        return self._number(alpha)[None], at.squares + 2.0 * energy(known.g), coefs
