"""Coordinates in which lifetimes are sought: their inverses.

Where they stand is part of a program, and which of them have bounds that make one interval of inverses is a
number that it is given: other bounds need no other program.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._places import with_values
from .._types import ArrayIn

# How many times its start a lifetime that may not change its sign can become.
_LONGEST = 1e8


class Inverses(eqx.Module):
    """Coordinates alpha (p,) with the inverse in those of these places that are `taken`: 1 / tau, in which a
    decay is straighter than in tau, and passes through 0 where it neither decays nor grows."""

    places: tuple[int, ...] = eqx.field(static=True)
    taken: Bool[ArrayIn, " l"]

    @classmethod
    def none(cls) -> "Inverses":
        return cls((), np.zeros(0, bool))

    def among(self, coordinates: Sequence[int]) -> "Inverses":
        """Those of some of the coordinates, in the places that these then have."""
        kept = [j for j, place in enumerate(self.places) if place in coordinates]
        places = tuple(list(coordinates).index(self.places[j]) for j in kept)
        return Inverses(places, np.asarray(self.taken)[np.array(kept, int)])

    def of(self, alpha: Float[Array, " p"]) -> Float[Array, " p"]:
        """The coordinates with those inverses, and from them alpha. The inverse of 0 is infinite."""
        if not self.places:
            return alpha
        mine = self._mine(alpha)
        return jnp.where(mine, 1.0 / jnp.where(mine, alpha, 1.0), alpha)

    def _mine(self, alpha: Array) -> Bool[Array, " p"]:
        return with_values(np.zeros(alpha.shape, bool), self.places, self.taken)

    def slopes(self, there: Float[Array, " p"]) -> Float[Array, " p"]:
        """Derivative of alpha by the coordinates `there`, which may be multiplied by what is zero where it is
        infinite."""
        tiny = float(jnp.finfo(there.dtype).tiny) ** 0.25
        return jnp.where(self._mine(there), -1.0 / jnp.maximum(jnp.abs(there), tiny) ** 2, 1.0)

    def inside(self, alpha: Float[Array, " p"], lower: Array, upper: Array) -> Float[Array, " p"]:
        """alpha that came back from its inverse, which is rounded: inside its bounds, and exactly on one that
        it has reached, for there it counts as held."""
        mine, eps = self._mine(alpha), float(jnp.finfo(alpha.dtype).eps)
        for bound in (lower, upper):
            reached = jnp.isfinite(bound) & (jnp.abs(alpha - bound) <= 4 * eps * jnp.abs(bound))
            alpha = jnp.where(mine & reached, bound, alpha)
        return jnp.clip(alpha, lower, upper)

    def bounds(
        self, lower: Array | None, upper: Array | None, alpha0: Array
    ) -> tuple[Array | None, Array | None]:
        """Bounds of the coordinates, from bounds of alpha, which are of one sign or both infinite where the
        inverse is taken.

        Of one sign alpha stays finite, up to `_LONGEST` times its start: at infinity a decay is a constant,
        and beside another one the model would lose a column there, and say nothing of what it was near it.
        """
        if not self.places or lower is None or upper is None:
            return lower, upper
        mine, longest = self._mine(alpha0), _LONGEST * jnp.abs(alpha0)
        every = jnp.isinf(lower) & jnp.isinf(upper)
        far, near = jnp.minimum(upper, longest), jnp.maximum(lower, -longest)
        new_low = jnp.where(upper == 0, -jnp.inf, 1.0 / jnp.where(upper == 0, 1.0, far))
        new_high = jnp.where(lower == 0, jnp.inf, 1.0 / jnp.where(lower == 0, 1.0, near))
        moved = mine & ~every
        return jnp.where(moved, new_low, lower), jnp.where(moved, new_high, upper)
