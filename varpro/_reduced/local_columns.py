"""Columns that are nothing beyond a few widths: products and factors that cost what the overlaps cost.

The samples are cut into tiles as long as the longest support. A component begins in its tile and ends in the
next one at the latest, so that a tile sees the components of two tiles alone, and Gram matrices are block
tridiagonal. Columns without a support, such as a background, are a border. Each tile has room for `slots`
components; where a component is longer than a tile, or a tile has too many, `fits` is False and nothing of
what is computed is meant.

Of a step of variable projection only the normal equations of all unknowns are needed: with c the optimum at
alpha and V = Phi' c, alpha's part of the solution of

    [ Phi^T Phi   Phi^T V         ] [ dc ]   [ 0     ]
    [ V^T Phi     V^T V + damping ] [ da ] = [ V^T r ]

is the step of Kaufman's Jacobian (I - Phi Phi^+) V (Ruhe and Wedin, SIAM Review 22, 318, 1980), and the
matrix is block tridiagonal where that Jacobian is dense.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._types import ArrayIn
from ..basis import Model
from ..linalg import Bordered, BorderedFactor, factored


class Placed(NamedTuple):
    """Which component (-1 for none) is in each slot, and whether all fit."""

    component: Int[Array, "t q"]
    fits: Bool[Array, ""]


class LocalPoint(NamedTuple):
    """The optimum of the coefficients at alpha."""

    local: Float[Array, " n"]
    common: Float[Array, " g"]
    resid: Float[Array, "t s"]
    cost: Float[Array, ""]
    finite: Bool[Array, ""]


class Linearised(NamedTuple):
    """The normal equations of a step at alpha."""

    matrix: Bordered
    right: tuple[Float[Array, "t w"], Float[Array, " e"]]
    slope: Float[Array, " p"]
    sizes: Float[Array, " p"]  # squared norms of the columns of V


class LocalProblem(eqx.Module):
    """Data of one right-hand side in tiles (t, s); padded samples have weight zero.

    `model.groups[group]` holds the components that have a support, n of them; all other columns, g in number,
    are common to all tiles.
    """

    model: Model
    x: Float[ArrayIn, " m"]
    tiled_x: Float[ArrayIn, "t s"]
    y: Float[ArrayIn, "t s"]
    weights: Float[ArrayIn, "t s"]
    group: int = eqx.field(static=True)
    slots: int = eqx.field(static=True)

    @property
    def members(self) -> np.ndarray:
        """Numbers of the parameters (keys, n) of the components that have a support."""
        return np.array(self.model.groups[self.group].index)

    def placed(self, alpha: Float[Array, " p"]) -> Placed:
        """The slots at alpha."""
        group, (tiles, length) = self.model.groups[self.group], self.tiled_x.shape
        ends = group.support(alpha)
        assert ends is not None
        low, high = ends
        first = jnp.searchsorted(self.x, low)
        last = jnp.searchsorted(self.x, high, side="right")
        tile = jnp.clip(first // length, 0, tiles - 1)
        order = jnp.argsort(tile)
        rank = jnp.arange(tile.size) - jnp.searchsorted(tile[order], tile[order])
        fits = jnp.all(last - first <= length) & jnp.all(rank < self.slots)
        slots = jnp.full((tiles, self.slots), -1)
        slots = slots.at[tile[order], rank].set(order, mode="drop")
        return Placed(slots, fits)

    def _seen(self, placed: Placed) -> Int[Array, "t 2q"]:
        """The components of the tile before, and its own."""
        before = jnp.concatenate([jnp.full_like(placed.component[:1], -1), placed.component[:-1]])
        return jnp.concatenate([before, placed.component], axis=1)

    def columns(
        self, alpha: Float[Array, " p"], placed: Placed, moving: bool
    ) -> tuple[Float[Array, "t s 2q"], list[Float[Array, "t s 2q"]]]:
        """Weighted columns that each tile sees, and where asked their derivatives by each key."""
        group, seen = self.model.groups[self.group], self._seen(placed)
        picked = tuple(alpha[ids][seen] for ids in self.members)

        def evaluated(*picked):
            return jax.vmap(group.evaluate)(self.tiled_x, picked)

        def clean(values):
            # Slots without a component show that of number -1.
            values = jnp.where((seen >= 0)[:, None, :], values, 0.0)
            return _times(values, self.weights)

        columns, moved = clean(evaluated(*picked)), []
        for key in range(len(picked) if moving else 0):
            ones = [
                jnp.ones_like(v) if i == key else jnp.zeros_like(v) for i, v in enumerate(picked)
            ]
            moved.append(clean(jax.jvp(evaluated, picked, tuple(ones))[1]))
        return columns, moved

    def common(self, alpha: Float[Array, " p"]) -> Float[Array, "t s g"]:
        """Weighted columns that every tile sees."""
        blocks = [
            group.evaluate(self.tiled_x.ravel(), group.pick(alpha))
            for i, group in enumerate(self.model.groups)
            if i != self.group
        ]
        shape = self.tiled_x.shape
        if not blocks:
            # A column of zeros is left out of every system.
            return jnp.zeros((*shape, 1), self.y.dtype)
        return _times(jnp.concatenate(blocks, axis=1).reshape(*shape, -1), self.weights)

    def common_moving(
        self, alpha: Float[Array, " p"], coef: Float[Array, " g"]
    ) -> tuple[Float[Array, "t s e"], np.ndarray]:
        """Weighted derivatives of what common columns add, and the numbers of their parameters."""
        shape, first, parts, numbers = self.tiled_x.shape, 0, [], []
        for i, group in enumerate(self.model.groups):
            if i == self.group:
                continue
            for table in group.partials(self.tiled_x.ravel(), alpha, first):
                parts.append(table.values * coef[table.column])
                numbers.append(table.parameter)
            first += group.width
        if not parts:
            return jnp.zeros((*shape, 0), self.y.dtype), np.zeros(0, int)
        every = np.concatenate(numbers)
        distinct = np.unique(every)
        chosen = (every[:, None] == distinct).astype(float)
        moved = jnp.concatenate(parts, axis=1) @ jnp.asarray(chosen, self.y.dtype)
        return _times(moved.reshape(*shape, -1), self.weights), distinct

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[LocalPoint, Placed]:
        """The optimum of the coefficients, by normal equations with two steps of refinement."""
        placed = self.placed(alpha)
        a, _ = self.columns(alpha, placed, moving=False)
        common = self.common(alpha)
        factor = factored(gram(a, common))
        resid = self.weighted_y
        local, ends = (
            jnp.zeros(placed.component.shape, a.dtype),
            jnp.zeros(common.shape[2], a.dtype),
        )
        for _ in range(3):
            more = factor.solve(*back(a, common, resid))
            local, ends = local + more[0], ends + more[1]
            resid = self.weighted_y - ahead(a, common, local, ends)
        cost = 0.5 * jnp.sum(resid**2)
        finite = placed.fits & jnp.isfinite(cost)
        n = self.members.shape[1]
        # One place more, for slots without a component.
        coef = jnp.zeros(n + 1, a.dtype).at[placed.component].set(local)[:n]
        return LocalPoint(coef, ends, resid, cost, finite), placed

    @property
    def weighted_y(self) -> Float[Array, "t s"]:
        """The data times their weights; a sample of weight zero may hold anything."""
        return jnp.where(self.weights > 0, self.y * self.weights, 0.0)

    def linearised(
        self, alpha: Float[Array, " p"], point: LocalPoint, placed: Placed
    ) -> Linearised:
        """The normal equations of a step, undamped."""
        a, moved = self.columns(alpha, placed, moving=True)
        seen = self._seen(placed)
        coef = jnp.where(seen >= 0, point.local[seen], 0.0)[:, None, :]
        parts = [a, *(m * coef for m in moved)]
        q = self.slots
        # Of the tile before all unknowns, then its own.
        joint = jnp.concatenate([v[:, :, :q] for v in parts] + [v[:, :, q:] for v in parts], axis=2)
        common = self.common(alpha)
        ends, numbers = self.common_moving(alpha, point.common)
        border = jnp.concatenate([common, ends], axis=2)
        matrix, right = gram(joint, border), back(joint, border, point.resid)
        slope = self.to_alpha(placed, numbers, right, alpha)
        sizes = self.to_alpha(placed, numbers, matrix.sizes, alpha)
        return Linearised(matrix, right, slope, sizes)

    def to_alpha(
        self, placed: Placed, numbers: np.ndarray, unknowns: tuple[Array, Array], alpha: Array
    ) -> Float[Array, " p"]:
        """The part of alpha in all unknowns of a step."""
        q, members = self.slots, self.members
        out = jnp.zeros(alpha.size + 1, alpha.dtype)
        for key, ids in enumerate(members):
            where = jnp.where(placed.component >= 0, jnp.asarray(ids)[placed.component], alpha.size)
            out = out.at[where].set(unknowns[0][:, q * (1 + key) : q * (2 + key)])
        if numbers.size:
            out = out.at[numbers].set(unknowns[1][-numbers.size :])
        return out[: alpha.size]

    def from_alpha(
        self, placed: Placed, numbers: np.ndarray, values: Float[Array, " p"], other: float
    ) -> tuple[Float[Array, "t w"], Float[Array, " e"]]:
        """Numbers of alpha in the order of all unknowns of a step; `other` for those of the coefficients."""
        full = jnp.full(placed.component.shape, other, values.dtype)
        filled = [full] + [
            jnp.where(placed.component >= 0, values[jnp.asarray(ids)[placed.component]], other)
            for ids in self.members
        ]
        width = sum(g.width for i, g in enumerate(self.model.groups) if i != self.group)
        ends = jnp.concatenate([jnp.full(max(width, 1), other, values.dtype), values[numbers]])
        return jnp.concatenate(filled, axis=1), ends

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the parameters of the common columns."""
        ids = [np.ravel(g.index) for i, g in enumerate(self.model.groups) if i != self.group]
        return np.unique(np.concatenate(ids).astype(int)) if ids else np.zeros(0, int)


def _times(values: Array, weights: Float[ArrayIn, "t s"]) -> Array:
    return jnp.where(weights[..., None] > 0, values * weights[..., None], 0.0)


def gram(a: Float[Array, "t s 2w"], border: Float[Array, "t s g"]) -> Bordered:
    """The Gram matrix of columns that two neighbouring tiles see, and of those that all see."""
    w = a.shape[2] // 2
    each = jnp.einsum("tsi,tsj->tij", a, a)
    after = jnp.concatenate([each[1:, :w, :w], jnp.zeros_like(each[:1, :w, :w])])
    return Bordered(
        each[:, w:, w:] + after,
        each[:, w:, :w],
        _own(jnp.einsum("tsi,tsg->tig", a, border)),
        jnp.einsum("tsg,tsh->gh", border, border),
    )


def back(
    a: Float[Array, "t s 2w"], border: Float[Array, "t s g"], r: Float[Array, "t s"]
) -> tuple[Float[Array, "t w"], Float[Array, " g"]]:
    """Products of all columns with r."""
    return _own(jnp.einsum("tsi,ts->ti", a, r)), jnp.einsum("tsg,ts->g", border, r)


def ahead(a: Array, border: Array, local: Float[Array, "t w"], ends: Float[Array, " g"]) -> Array:
    """The columns times their coefficients (t, s)."""
    before = jnp.concatenate([jnp.zeros_like(local[:1]), local[:-1]])
    both = jnp.concatenate([before, local], axis=1)
    return jnp.einsum("tsi,ti->ts", a, both) + border @ ends


def _own(each: Float[Array, "t 2w ..."]) -> Float[Array, "t w ..."]:
    """What the tile and the one after it say of the columns of a tile."""
    w = each.shape[1] // 2
    return each[:, w:] + jnp.concatenate([each[1:, :w], jnp.zeros_like(each[:1, :w])])


def step_factor(
    matrix: Bordered, damping: tuple[Array, Array], held: tuple[Array, Array]
) -> BorderedFactor:
    """The factor of the normal equations of a step with these numbers added to their diagonal, without the
    unknowns that are held."""
    free, ends = ((1.0 - h) for h in held)
    before = jnp.concatenate([jnp.ones_like(free[:1]), free[:-1]])
    eye = jnp.eye(free.shape[1], dtype=free.dtype)
    diagonal = matrix.diagonal * free[:, :, None] * free[:, None, :] + damping[0][:, :, None] * eye
    return factored(
        Bordered(
            diagonal,
            matrix.below * free[:, :, None] * before[:, None, :],
            matrix.border * free[:, :, None] * ends,
            matrix.corner * ends[:, None] * ends + jnp.diag(damping[1]),
        )
    )
