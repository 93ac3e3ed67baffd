"""States of an ordinary differential equation as columns, by diffrax."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._given.arguments import number
from .._given.containers import real_numbers
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import AbstractBasis, Params, ParamsField, as_params


def _start(value: Mapping[str, float] | Sequence[float]) -> np.ndarray:
    """Convert states by name, or numbers, to an array (n,)."""
    if isinstance(value, Mapping):
        value = [number(f"start of {name}", one) for name, one in value.items()]
    return real_numbers("start", value).astype(float)


class ODE(AbstractBasis):
    """The states of `dy/dx = field(x, y, theta)` with known start: one column for each.

        def dimer(x, y, theta):  # 2 A -> B, which decays
            return jnp.array([-2 * theta["k2"] * y[0] ** 2, theta["k2"] * y[0] ** 2 - theta["k1"] * y[1]])

        vp.ODE("s", dimer, {"A": 1.0, "B": 0.0}, {"k2": 0.5, "k1": 0.1})

    Columns are `s.A` and `s.B`, so that their coefficients are the signals of unit amounts, and
    parameters `s.k2` and `s.k1`. Solved by Tsitouras' method of order 5 with steps chosen by the
    error, and differentiated along with it. Where it fails, because the equation is stiff or runs
    off, the columns are NaN: a search rejects the step, and a start like that is refused. Linear
    schemes are solved without steps by `vp.Kinetics`.

    **Arguments:**

    - `name`: of the component.
    - `field`: called as `field(x, y, theta)` with y (n,) and `theta` a dict of scalars; returns (n,).
        Write it with `jax.numpy`.
    - `start`: the states at `x0`, by name, or numbers (n,), whose columns are then 0, 1, ...
    - `params`: dict of `Param` or plain starts, by name.
    - `x0`: where the states are `start`, 0 by default; no x of the data lies before it.
    - `stiff`: solve by Kvaerno's implicit method of order 5.
    - `rtol`, `atol`: the error that a step may have, 1e-9 and 1e-11 by default.
    - `max_steps`: steps at most, 4096 by default.

    **Raises:** `InputError` where diffrax is not installed (`pip install varpro[ode]`), for a field
    that does not return as many numbers as there are states, and from a fit with x before `x0`.
    """

    name: str
    field: Callable[[Array, Array, dict[str, Array]], Array] = eqx.field(static=True)
    start: np.ndarray = eqx.field(converter=_start)
    params: ParamsField = eqx.field(converter=as_params, default=())
    x0: float = eqx.field(static=True, default=0.0, kw_only=True)
    stiff: bool = eqx.field(static=True, default=False, kw_only=True)
    rtol: float = eqx.field(static=True, default=1e-9, kw_only=True)
    atol: float = eqx.field(static=True, default=1e-11, kw_only=True)
    max_steps: int = eqx.field(static=True, default=4096, kw_only=True)
    states: tuple[str, ...] = eqx.field(static=True, init=False, default=())

    def __post_init__(self):
        start = self.start
        names = start if isinstance(start, Mapping) else range(_start(start).size)  # pyright: ignore[reportArgumentType]
        self.states = tuple(str(state) for state in names)

    def __check_init__(self):
        if self.start.ndim != 1 or not self.start.size or not np.isfinite(self.start).all():
            raise InputError(
                f"ODE '{self.name}' needs finite start values of its states, such as {{'A': 1.0}}, not "
                f"{self.start!r}."
            )
        _diffrax(self.name)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names `name.state` of the columns."""
        return tuple(f"{self.name}.{state}" for state in self.states)

    @property
    def parameters(self) -> dict[str, Param]:
        """Parameters of the field by local name."""
        return dict(cast(Params, self.params))

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> Array:
        """States (m, n) at x (m,), in any order; NaN where the solver fails."""
        dfx = _diffrax(self.name)
        x = jnp.asarray(x)
        # The solver saves in order of x.
        order = jnp.argsort(x)
        solution = dfx.diffeqsolve(
            dfx.ODETerm(self.field),
            dfx.Kvaerno5() if self.stiff else dfx.Tsit5(),
            t0=jnp.asarray(self.x0, x.dtype),
            t1=jnp.max(x),
            dt0=None,
            y0=jnp.asarray(self.start, x.dtype),
            args=dict(values),
            saveat=dfx.SaveAt(ts=x[order]),
            stepsize_controller=dfx.PIDController(rtol=self.rtol, atol=self.atol),
            adjoint=dfx.ForwardMode(),
            max_steps=self.max_steps,
            throw=False,
        )
        solved = solution.result == dfx.RESULTS.successful
        columns = jnp.where(solved, solution.ys, jnp.nan)
        return columns[jnp.argsort(order)]

    def prepared(self, x: PyTree, dtype: np.dtype) -> "ODE":
        """Check `x`, and the field by an abstract call.

        **Raises:** `InputError` for x before `x0`, for a parameter without a start, and for a field
        that does not return n numbers.
        """
        lowest = np.min(x)
        if lowest < self.x0:
            raise InputError(
                f"ODE '{self.name}' starts at x0 = {self.x0:g}, but x goes down to {lowest:g}. Leave "
                "those samples out, or set x0."
            )

        theta = {k: jax.ShapeDtypeStruct((), dtype) for k in self.parameters}
        scalar = jax.ShapeDtypeStruct((), dtype)
        state = jax.ShapeDtypeStruct(self.start.shape, dtype)
        try:
            returned: Any = jax.eval_shape(self.field, scalar, state, theta)
        except KeyError as error:
            raise InputError(
                f"ODE '{self.name}' asked for the parameter {error}, which has no start; known: "
                f"{', '.join(self.parameters) or 'none'}."
            ) from error
        if getattr(returned, "shape", None) != self.start.shape:
            raise InputError(
                f"The field of ODE '{self.name}' returned {getattr(returned, 'shape', returned)} for "
                f"{self.start.size} states; expected shape {self.start.shape}."
            )
        return self


def _diffrax(name: str | None) -> Any:
    """Import diffrax. **Raises:** `InputError` where it is not installed."""
    try:
        return importlib.import_module("diffrax")
    except ImportError as error:
        raise InputError(
            f"ODE '{name}' needs diffrax, which is not installed. Install it with "
            "'pip install varpro[ode]'."
        ) from error
