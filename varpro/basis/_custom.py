"""A user's own function as a basis, and terms without a coefficient."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._parameters.param import Param
from ..linalg import is_operator
from ._base import AbstractBasis, Params, ParamsField, as_params
from ._dependence import dependence


class Custom(AbstractBasis):
    """Columns from a function of your own; no class and no derivative are needed.

    **Arguments:**

    - `name`: prefix of the parameter and column names; "" for none.
    - `function`: called as `function(theta, x)` with `theta` a dict of scalars. It returns the
        columns as a dict of arrays (m,), whose keys name them, or as a tuple of arrays (m,), or as
        one array (m, n). Write it with `jax.numpy`.
    - `params`: dict of `Param` or plain starts, by name.
    - `columns`: names for the columns of a tuple or an array; `c0`, `c1`, ... by default.
    """

    name: str
    function: Callable[[dict[str, Array], PyTree], Any] = eqx.field(static=True)
    params: ParamsField = eqx.field(converter=as_params, default=())
    columns: tuple[str, ...] | None = eqx.field(static=True, default=None)
    # What is read off the function once x is known: of which parameters each column is made, and whether
    # each row is made of its own x.
    made_of: tuple[tuple[int, ...], ...] | None = eqx.field(static=True, default=None, kw_only=True)
    by_rows: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        if not isinstance(self.name, str):
            raise InputError(f"Custom takes a name and a function, not {self.name!r}.")
        if self.columns is not None and not (
            isinstance(self.columns, tuple | list) and all(isinstance(c, str) for c in self.columns)
        ):
            raise InputError(
                f"Custom '{self.name}': columns must be names such as ('a', 'b'), not {self.columns!r}."
            )
        if not callable(self.function):
            raise InputError(f"Custom '{self.name}' needs a function, not {self.function!r}.")

    @property
    def parameters(self) -> dict[str, Param]:
        """Parameters by local name."""
        return dict(cast(Params, self.params))

    @property
    def rowwise(self) -> bool:
        """Whether the function was seen to make every row of its own x."""
        return self.by_rows

    @property
    def column_parameters(self) -> tuple[tuple[int, ...], ...] | None:
        """What the function was seen to make each column of."""
        return self.made_of

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns; none before `prepared` has called the function."""
        return tuple(f"{self.name}.{c}" if self.name else c for c in self.columns or ())

    def parameter_name(self, local: str) -> str:
        """Full name of a parameter: `name.parameter`, or the local one for the name ""."""
        return f"{self.name}.{local}" if self.name else local

    def evaluate(self, x: PyTree, values: Mapping[str, Array]) -> Array:
        """Columns (m, n) that the function returns at `x`."""
        columns = self.function(dict(values), x)
        if isinstance(columns, Mapping):
            columns = tuple(columns.values())
        if isinstance(columns, tuple | list):
            columns = jnp.stack(jnp.broadcast_arrays(*map(jnp.asarray, columns)), axis=-1)
        columns = jnp.asarray(columns)
        return columns[:, None] if columns.ndim == 1 else columns

    def prepared(self, x: PyTree, dtype: np.dtype) -> "Custom":
        """Name the columns after one abstract call of the function.

        **Raises:** `InputError` for a parameter without a start, for columns of another length than x,
        and for another number of names than columns.
        """
        label = self.name or getattr(self.function, "__name__", "the basis")
        theta = {k: jax.ShapeDtypeStruct((), dtype) for k in self.parameters}
        keys: list[str] = []

        def traced(theta, x):
            # Seen from outside, JAX sorts the keys of a dict; the columns keep their own order.
            shapes = self.function(theta, x)
            if is_operator(shapes):
                raise InputError(
                    f"{label} returns an operator, which is a model of its own: give varpro.fit that function "
                    "alone and one set of data, or varpro.solve(basis, y, start, args).",
                    argument="model",
                )
            if not isinstance(shapes, Mapping):
                return shapes
            keys[:] = list(map(str, shapes))
            return tuple(shapes.values())

        try:
            shapes = jax.eval_shape(traced, theta, x)
        except KeyError as error:
            raise InputError(
                f"{label} asked for the parameter {error}, which has no start. Give one in init=; "
                f"known: {', '.join(self.parameters) or 'none'}."
            ) from error
        except InputError:
            raise
        except Exception as error:
            raise _refused(label, error) from error
        _check_columns(label, shapes)
        _check_lengths(label, shapes, x)
        if keys:
            return self._read(tuple(keys), x, dtype)
        if isinstance(shapes, tuple | list):
            count = len(shapes)
        elif shapes.ndim in (1, 2):
            count = shapes.shape[1] if shapes.ndim == 2 else 1
        else:
            raise InputError(
                f"{label} returned an array of shape {shapes.shape}; expected (m, n), a tuple of "
                "columns (m,), or a dict of columns (m,)."
            )
        columns = self.columns or tuple(f"c{i}" for i in range(count))
        if len(columns) != count:
            raise InputError(
                f"{label} returned {count} columns but {len(columns)} names were given."
            )
        return self._read(columns, x, dtype)

    def _read(self, columns: tuple[str, ...], x: PyTree, dtype: np.dtype) -> "Custom":
        """This basis with names for its columns and what they depend on."""
        keys = tuple(self.parameters)

        def evaluated(theta, x):
            return self.evaluate(x, dict(zip(keys, theta, strict=True)))

        given = self.name, self.function, self.params, columns
        known = dependence(evaluated, len(keys), x, dtype)
        if known is None:
            return Custom(*given)
        return Custom(*given, made_of=known.parameters, by_rows=known.rows)


def _refused(label: str, error: Exception) -> InputError:
    """What a function is told that raises when JAX traces it."""
    kind = type(error).__name__
    if kind == "TracerBoolConversionError":
        said = "asks with 'if' or 'and' what a number is. Write jnp.where(condition, a, b)"
    elif kind in (
        "TracerArrayConversionError",
        "ConcretizationTypeError",
        "TracerIntegerConversionError",
    ):
        said = (
            "is traced by JAX and needs its functions: jnp.exp of jax.numpy (import jax.numpy as jnp) and "
            "not np.exp or math.exp, and no float() or int()"
        )
    else:
        reason = (str(error).strip().splitlines() or [""])[0]
        said = (
            f"raised {kind}: {reason}. It is called as function(theta, x), theta a dict of the parameters, "
            "and is written with jax.numpy (jnp)"
        )
    return InputError(f"{label} {said}.", argument="model")


def _check_columns(label: str, returned: Any) -> None:
    """Refuse what is no array of floating numbers."""
    leaves = jax.tree.leaves(returned)
    if not leaves:
        raise InputError(
            f"{label} returned {returned!r}; expected columns: an array jnp.stack([...], axis=1) of shape "
            "(m, n), a tuple of columns (m,), or a dict of columns (m,). Is 'return' missing?",
            argument="model",
        )
    for leaf in leaves:
        if leaf.ndim and not np.issubdtype(leaf.dtype, np.inexact):
            raise InputError(
                f"{label} returned a column of {leaf.dtype}, which has no derivative. Make it floating: "
                "jnp.asarray(column, float).",
                argument="model",
            )


def _check_lengths(label: str, returned: Any, x: PyTree) -> None:
    """Refuse columns of another length than x, where the arrays in x agree on one."""
    sizes = {np.shape(leaf)[0] for leaf in jax.tree.leaves(x) if np.ndim(leaf)}
    shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(returned)]
    if len(sizes) != 1 or not shapes:
        return
    (samples,) = sizes
    single = isinstance(returned, tuple | list)
    wrong = [
        s for s in shapes if (s not in ((), (1,), (samples,)) if single else s[:1] != (samples,))
    ]
    if wrong:
        raise InputError(
            f"{label} returned an array of shape {wrong[0]} for {samples} samples of x; a column "
            "has one value for each sample."
        )


class Offset(AbstractBasis):
    """A term without a coefficient: the columns of `basis`, summed, each with coefficient 1.

    `vp.Offset(vp.Custom("known", f, {"shift": 0.1})) + vp.Exp("decay", tau=2.0)` is the model
    `y ~ f(shift) + c exp(-x / tau)`.
    """

    basis: AbstractBasis
    name: str = ""

    def __check_init__(self):
        if not isinstance(self.basis, AbstractBasis):
            raise InputError(f"Offset takes a basis, such as vp.Custom(...), not {self.basis!r}.")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Empty: an offset has no coefficient."""
        return ()

    @property
    def parameters(self) -> dict[str, Param]:
        """Parameters of the basis by local name."""
        return self.basis.parameters

    def parameter_name(self, local: str) -> str:
        """Full name of a parameter of the basis."""
        return self.basis.parameter_name(local)

    @property
    def rowwise(self) -> bool:
        """Whether the basis is."""
        return self.basis.rowwise

    def evaluate(self, x: PyTree, values: Mapping[str, Array]) -> Array:
        """Sum of the columns of the basis (m, 1)."""
        return jnp.sum(self.basis.evaluate(x, values), axis=1, keepdims=True)

    def prepared(self, x: PyTree, dtype: np.dtype) -> "Offset":
        """Prepare the basis for `x`."""
        return Offset(self.basis.prepared(x, dtype))
