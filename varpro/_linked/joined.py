"""Data sets one below the other as one basis, whose columns reach through all of them."""

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._parameters.param import Param
from .._types import ArrayIn
from ..basis import AbstractBasis, Model


class Joined(AbstractBasis):
    """The rows of several data sets, one below the other, at `x`, which is a tuple of theirs.

    **Fields:** `models` of the data sets; `params` of all by full name; `columns`, names of the N columns; and of every data set: `picks`, the numbers of its parameters; `places`,
    of its columns among the N; `scales`, of the parameters by which these are multiplied, or -1.
    """

    models: tuple[Model, ...]
    params: tuple[tuple[str, Param], ...]
    columns: tuple[str, ...]
    picks: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    places: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    scales: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    name: str = ""

    @property
    def parameters(self) -> dict[str, Param]:
        """All parameters by full name."""
        return dict(self.params)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns: those that are linked as they are, others after their data set."""
        return self.columns

    def parameter_name(self, local: str) -> str:
        """The name itself."""
        return local

    def only(self, d: int) -> "Joined":
        """The basis of data set d alone, at its own x, for the same parameters."""
        names = tuple(self.models[d].columns)
        return Joined(
            (self.models[d],),
            self.params,
            names,
            (self.picks[d],),
            (tuple(range(len(names))),),
            (self.scales[d],),
        )

    def evaluate(self, x: PyTree, values: Mapping[str, ArrayIn]) -> Array:
        """Columns (m, N) at a tuple of x; of a single data set at its x."""
        every = [jnp.asarray(value) for value in values.values()]
        each = x if isinstance(x, tuple) and len(self.models) > 1 else (x,)
        blocks = []
        for d, (model, here) in enumerate(zip(self.models, each, strict=True)):
            picked = [every[i] for i in self.picks[d]]
            phi = model.evaluate(here, jnp.stack(picked) if picked else jnp.zeros(0))
            columns: list[Array] = [jnp.zeros_like(phi[:, 0])] * len(self.columns)
            for i, (place, scale) in enumerate(zip(self.places[d], self.scales[d], strict=True)):
                columns[place] = phi[:, i] * every[scale] if scale >= 0 else phi[:, i]
            blocks.append(jnp.stack(columns, axis=1))
        dtype = jnp.result_type(*blocks)
        return jnp.concatenate([block.astype(dtype) for block in blocks])
