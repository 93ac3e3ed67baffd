"""The reduced problem of a basis that is an operator, with the norm L1 as penalty.

    F(alpha) = min over c   1/2 || b - A c ||^2 + s || L c ||_1

A, b with weights. By duality, for every theta and u with A^H theta = L^H u and |u_i| <= s

    F >= Re <theta, b> - 1/2 || theta ||^2

and the difference of both sides, the gap, bounds what is lost by coefficients that are not optimal. They come
of alternating directions (ADMM), with z for L c, each round one inner solve for c, begun at the last one:

    c    the minimum of 1/2 || b - A c ||^2 + rho/2 || L c - z + u / rho ||^2
    z    L c + u / rho, shrunk by s / rho          u    u + rho (L c - z)

After the first line r = b - A c and v = u + rho (L c - z) fulfil A^H r = L^H v up to what the inner solve has
left, e = A^H r - L^H v, so that t r and t v are a pair as above for every t <= s / max |v_i|. For e,

    || e || || c || + Re <e, c>

is added to the gap: so much could it matter for coefficients that are no farther from c than zero is.

F has the derivative Re <r, b' - A' c>: that of the optimal c does not enter. The Jacobian is that of
coefficients that keep the zeros of L c, so it is Kaufman's with c in a smaller space; it is corrected by a
matrix of rank one to have exactly that gradient. S. Boyd et al., Found. Trends Mach. Learn. 3, 1 (2011).
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from .._problem.operator_problem import OperatorProblem
from ..linalg import (
    Accuracy,
    ConjugateGradients,
    Preconditioner,
    Rows,
    real_dot,
    restricted,
)
from .large import AbstractLarge
from .operator_basis import OperatorReduced, all_rows

# Of each inner solve, what it leaves of the gradient that it begins with.
_ROUGH = 1e-2
# How far z overshoots; how much larger one of the changes of z and of L c - z may be before rho follows, by
# which factor, and in how many rounds, for with a rho that goes on to change nothing need converge.
_OVER, _UNBALANCED, _FACTOR, _ADAPTED = 1.6, 3.0, 2.0, 100
# Weight of entries of L c that are held at zero, in units of rho.
_HELD = 1e3


class SparsePoint(eqx.Module):
    """What one evaluation knows, as `OperatorPoint`; `gap`, absolute; `split` is z, `dual` u, `balance` rho."""

    coef: Inexact[Array, " n"]
    resid: tuple[Array, Array]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]
    gap: Float[Array, ""]
    split: Inexact[Array, " l"]
    dual: Inexact[Array, " l"]
    balance: Float[Array, ""]


class SparseReduced(AbstractLarge):
    """The reduced problem of an `OperatorProblem` whose penalty is the norm L1."""

    problem: OperatorProblem
    inner: ConjugateGradients

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], SparsePoint]:
        data, nothing = self.problem.empty(self.problem.coefficients.dtype)
        zero = jnp.zeros((), data.real.dtype)
        coef = jnp.zeros(self.problem.coefficients.size, self.problem.coefficients.dtype)
        resid, steps = (data, nothing.real), jnp.zeros((), jnp.int32)
        start = SparsePoint(coef, resid, steps, jnp.array(False), zero, nothing, nothing, zero)
        return self.resumed(alpha, start)

    def resumed(
        self, alpha: Float[Array, " p"], point: SparsePoint
    ) -> tuple[Float[Array, " M"], SparsePoint]:
        problem = self.problem
        assert problem.penalty is not None and problem.sparse is not None
        penalty, sparse, strength = problem.penalty, problem.sparse, problem.strength
        products, b = problem.products(alpha), problem.target(alpha)[0]

        def judged(c, rest, e, split, rho):
            """The residual and the gap of coefficients c, with the pair of which L c - z is `rest`."""
            data, v = rest[0], -jnp.sqrt(rho) * rest[1]
            squares, most = real_dot(data, data), jnp.max(jnp.abs(v), initial=0.0)
            t = real_dot(data, b) / jnp.where(squares > 0, squares, 1.0)
            t = jnp.clip(t, 0.0, jnp.where(most > strength, strength / most, jnp.inf))
            lower = t * real_dot(data, b) - 0.5 * t**2 * squares
            lower -= t * (real_dot(e, c) + jnp.sqrt(real_dot(e, e) * real_dot(c, c)))
            if sparse.direct:
                c = split
                data = b - problem.weighted(products.forward(c)).astype(b.dtype)
                kink = problem.kink(c)
            else:
                kink = problem.kink(penalty.forward(c))
            resid = data, kink
            upper = 0.5 * real_dot(resid, resid)
            return c, resid, upper - lower, upper

        def unfinished(state):
            point, upper, rounds = state
            near = point.gap <= sparse.gap * upper
            return ~near & jnp.isfinite(upper) & (rounds < self.inner.max_steps)

        def again(state):
            point, _, rounds = state
            z, u, rho = point.split, point.dual, point.balance
            rows = problem.rows(products, rho)
            root = jnp.sqrt(rho)
            begin = jax.tree.map(jnp.subtract, (b, root * z - u / root), rows.ahead(point.coef))
            some = dataclasses.replace(self.inner, rtol=jnp.asarray(_ROUGH, rho.dtype))
            moved = some.least_squares(
                rows, begin, None, jnp.zeros_like(point.coef), self.preconditioner(alpha, rho)
            )
            c, rest = point.coef + moved.x, moved.rest
            steps = z - (u / root + rest[1]) / root
            over = _OVER * steps + (1.0 - _OVER) * z
            new = _shrunk(over + u / rho, strength / rho)
            dual = u + rho * (over - new)
            found, resid, gap, upper = judged(c, rest, rows.back(rest), new, rho)
            apart = _size(steps - new) / jnp.maximum(_size(new), _size(steps))
            change = rho * _size(new - z) / _size(dual)
            up = (apart > _UNBALANCED * change) & (rounds < _ADAPTED)
            down = (change > _UNBALANCED * apart) & (rounds < _ADAPTED)
            rho = rho * jnp.where(up, _FACTOR, jnp.where(down, 1.0 / _FACTOR, 1.0))
            count = point.steps + moved.steps + 1
            good = gap <= sparse.gap * upper
            return SparsePoint(found, resid, count, good, gap, new, dual, rho), upper, rounds + 1

        first = point.balance <= 0
        rho = jax.lax.cond(first, lambda: self._balance(products, b), lambda: point.balance)
        infinite = jnp.full((), jnp.inf, rho.dtype)
        point = dataclasses.replace(point, balance=rho, gap=infinite)
        point, upper, _ = jax.lax.while_loop(
            unfinished, again, (point, jnp.ones((), rho.dtype), jnp.zeros((), jnp.int32))
        )
        # A vector that is not finite is no start for the next solve.
        finite = jnp.isfinite(upper)
        clean = [
            jnp.where(finite, a, jnp.zeros((), a.dtype))
            for a in (point.coef, point.split, point.dual, point.balance)
        ]
        point = SparsePoint(
            clean[0],
            jax.tree.map(lambda r: jnp.where(finite, r, jnp.nan), point.resid),
            point.steps,
            point.converged & finite,
            point.gap,
            *clean[1:],
        )
        return self._rows(alpha, point), point

    def _balance(self, products, b):
        """The first rho: at which the penalty of the smallest steps that tell of the data is its norm L1."""
        problem = self.problem
        assert problem.penalty is not None
        v = products.adjoint(problem.weighted(b))
        seen = problem.weighted(products.forward(v)).astype(b.dtype)
        squares = real_dot(seen, seen)
        v = v * (real_dot(v, v) / jnp.where(squares > 0, squares, 1.0)).astype(v.dtype)
        steps = jnp.abs(problem.penalty.forward(v))
        size = jnp.sum(steps**2) / jnp.maximum(jnp.sum(steps), jnp.finfo(steps.dtype).tiny)
        rho = problem.strength / jnp.where(size > 0, size, 1.0)
        return jnp.where(jnp.isfinite(rho) & (rho > 0), rho, 1.0)

    def polished(
        self, alpha: Float[Array, " p"], point: SparsePoint
    ) -> tuple[Float[Array, " M"], SparsePoint]:
        """The point itself: all are as exact as the gap."""
        return self._rows(alpha, point), point

    def _rows(self, alpha: Array, point: SparsePoint) -> Array:
        return jnp.concatenate([all_rows(point.resid), self.problem.beside(alpha)])

    def preconditioner(
        self, alpha: Float[Array, " p"], strength: Float[Array, ""]
    ) -> Preconditioner | None:
        """The preconditioner at alpha, for a quadratic penalty of that strength."""
        return OperatorReduced(self.problem, self.inner, "kaufman").preconditioner(alpha, strength)

    def free(self, point: SparsePoint) -> Bool[Array, " n"] | None:
        """Which coefficients are not zero; None if none is held by itself."""
        assert self.problem.sparse is not None
        return point.coef != 0 if self.problem.sparse.direct else None

    def tangent(
        self, alpha: Float[Array, " p"], point: SparsePoint
    ) -> tuple[Rows, Preconditioner | None]:
        """B and its preconditioner for coefficients that keep the zeros of L c."""
        weight, held = _HELD * point.balance, point.split == 0
        rows = self.problem.rows(self.problem.products(alpha), weight)

        def kept(smooth):
            return jnp.where(held, smooth, jnp.zeros((), smooth.dtype))

        def ahead(c):
            data, smooth = rows.ahead(c)
            return data, kept(smooth)

        face = Rows(ahead, lambda pair: rows.back((pair[0], kept(pair[1]))))
        return restricted(face, self.preconditioner(alpha, weight), self.free(point))

    def jacobian(self, alpha: Float[Array, " p"], point: SparsePoint) -> Float[Array, "M p"]:
        return self.jacobian_to(alpha, point, "jacobian")

    def jacobian_to(
        self, alpha: Float[Array, " p"], point: SparsePoint, accuracy: Accuracy
    ) -> Float[Array, "M p"]:
        problem = self.problem
        rows, precondition = self.tangent(alpha, point)
        v = problem.moving(alpha, point.coef)
        nothing, zero = problem.empty(point.coef.dtype)[1], jnp.zeros_like(point.coef)

        def one(v):
            found = self.inner.least_squares(rows, (v, nothing), None, zero, precondition, accuracy)
            return all_rows((found.rest[0], nothing.real))

        columns = jnp.concatenate([jax.vmap(one)(v).T, jax.jacfwd(problem.beside)(alpha)])
        resid, beside = self._rows(alpha, point), problem.beside(alpha)
        slope = jax.vmap(lambda v: real_dot(v, point.resid[0]))(v)
        slope = slope + beside @ jax.jacfwd(problem.beside)(alpha)
        squares = jnp.sum(resid**2)
        lacks = (slope - resid @ columns) / jnp.where(squares > 0, squares, 1.0)
        return columns + resid[:, None] * lacks

    def rotated(
        self, alpha: Float[Array, " p"], point: SparsePoint
    ) -> tuple[Float[Array, "N p"], Float[Array, " N"]]:
        return self.jacobian(alpha, point), self._rows(alpha, point)

    def cost(self, alpha: Float[Array, " p"], point: SparsePoint) -> Float[Array, ""]:
        beside = self.problem.beside(alpha)
        return 0.5 * (real_dot(point.resid, point.resid) + real_dot(beside, beside))

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        return jnp.linalg.norm(self.problem.target(alpha)[0])

    def rounding_factor(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        """The cost is as uncertain as the gap."""
        assert self.problem.sparse is not None
        return self.problem.sparse.gap / float(jnp.finfo(alpha.dtype).eps)

    def quality(self, point: SparsePoint) -> dict[str, Array]:
        return {
            "inner_steps": point.steps,
            "inner_converged": point.converged,
            "gap": point.gap,
            "split": point.split,
            "balance": point.balance,
        }


def _shrunk(a: Inexact[Array, " l"], by: Float[Array, ""]) -> Inexact[Array, " l"]:
    """Every number nearer to zero by so much, exactly zero where it was no farther."""
    size = jnp.abs(a)
    scale = jnp.maximum(size - by, 0.0) / jnp.where(size > 0, size, 1.0)
    return a * scale.astype(a.dtype)


def _size(a: Array) -> Array:
    return jnp.sqrt(real_dot(a, a))
