"""Compartments that pass on what they hold: kinetic schemes of first order."""

import itertools
from collections.abc import Mapping
from typing import ClassVar, cast

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._errors import InputError, suggestion
from .._given.arguments import mapping, number
from .._parameters.param import Param
from .._places import summed_at, taken
from .._types import ArrayIn
from ._base import POSITIVE, AbstractBasis, Domain, Params, ParamsField, as_params
from ._matrix_exponential import states
from ._origin import (
    Origin,
    check_begins,
    from_origin,
    origin_field,
    refuse_with_response,
    shape_origin,
    with_origin,
)
from ._response import AbstractResponse

_ARROW = "->"
# Modes of a rate matrix that are less independent than this say nothing.
_DEPENDENT = 1e8


Amounts = tuple[tuple[str, np.ndarray], ...]
"""Numbers by name, as arrays."""


def _amounts(value: Mapping[str, float | int] | Amounts | None) -> Amounts:
    """Convert numbers by name to pairs of name and array."""
    # Arrays, so that other amounts need no other program.
    if value is None or isinstance(value, tuple) and all(isinstance(v, tuple) for v in value):
        items = value or ()  # pairs already
    else:
        items = mapping("initial", value, "{'A': 1.0}").items()
    return tuple((str(k), np.asarray(number(f"initial of {k}", v))) for k, v in items)


class Kinetics(AbstractBasis):
    """A kinetic scheme: columns are the concentrations of its compartments, `c' = K c`.

        vp.Kinetics("s", {"A->B": 2.0, "B->A": 0.1, "B->": 0.05})

    is a reversible step and a loss from B. Its columns are `s.A` and `s.B`, the coefficients of which
    are species-associated spectra, and its parameters the rates `s.A->B`, `s.B->A` and `s.B->`, for
    which `K[j, i]` is the rate of `i->j` and `K[i, i]` minus the sum of all rates out of i.
    Sequential, parallel, branched and cyclic schemes, equal rates and damped oscillations are all
    computed by products of matrices, without eigenvalues.

    Nagle, Biophys. J. 59 (1991) 476; van Stokkum, Larsen and van Grondelle, Biochim. Biophys. Acta
    1657 (2004) 82.

    **Arguments:**

    - `name`: of the component.
    - `transfers`: the rates, per unit of x, by `"from->to"`; `"from->"` is lost. Compartments are in
        the order in which they appear there.
    - `initial`: what compartments hold at the origin, by name; by default 1 in the first and nothing in
        the others.
    - `irf`: the response with which it is convolved; the origin is then where that is centred.
    - `origin`: the x at which it begins; 0 by default, or the first x where all x are more than five
        times their span away from 0, which the report says.

    **Raises:** `InputError` for transfers that make no scheme, for initial amounts of unknown
    compartments, for both irf and origin, and from a fit with x before the origin.
    """

    name: str
    transfers: ParamsField = eqx.field(converter=as_params, default=())
    initial: Amounts = eqx.field(converter=_amounts, default=(), kw_only=True)
    irf: AbstractResponse | None = eqx.field(default=None, kw_only=True)
    origin: Origin = origin_field()
    # From, to (-1: lost); and which compartments hold something at first.
    arrows: tuple[tuple[int, int], ...] = eqx.field(static=True, init=False, default=())
    filled: tuple[int, ...] = eqx.field(static=True, init=False, default=())
    joint_derivative: ClassVar[bool] = True

    def __post_init__(self):
        names = [self._ends(key) for key, _ in as_params(self.transfers)]
        order = {name: i for i, name in enumerate(self._compartments(names))}
        self.arrows = tuple((order[a], order[b] if b else -1) for a, b in names)
        filled = [key for key, _ in _amounts(self.initial)]
        unknown = [key for key in filled if key not in order]
        if unknown:
            raise InputError(
                f"Kinetics '{self.name}': initial names the compartment '{unknown[0]}', which no "
                f"transfer has. {suggestion(unknown[0], list(order))}"
            )
        self.filled = tuple(order[key] for key in filled) or (0,)

    def __check_init__(self):
        label = f"Kinetics '{self.name}'"
        refuse_with_response(label, self.origin, self.irf)
        if not self.transfers:
            raise InputError(f"{label} needs transfers, such as {{'A->B': 1.0, 'B->': 0.1}}.")
        amounts = np.array([amount for _, amount in self.initial])
        if amounts.size and not (np.isfinite(amounts).all() and amounts.any()):
            raise InputError(f"{label}: initial amounts must be finite, and not all zero.")

    def _ends(self, key: str) -> tuple[str, str]:
        """Split a transfer "A->B" into its ends, the second "" for a loss."""
        before, arrow, after = (part.strip() for part in key.partition(_ARROW))
        wrong = set(before + after) & set(".*?[] ") or _ARROW in after or before == after
        if wrong or not arrow or not before or key != before + _ARROW + after:
            raise InputError(
                f"Kinetics '{self.name}': the transfer {key!r} must read 'A->B' or, for a loss, 'A->', "
                "with two different names without blanks, dots and brackets."
            )
        return before, after

    @property
    def _pairs(self) -> Params:
        return cast(Params, self.transfers)

    @staticmethod
    def _compartments(ends: list[tuple[str, str]]) -> tuple[str, ...]:
        """Names of the compartments, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for name in itertools.chain(*ends) if name))

    @property
    def compartments(self) -> tuple[str, ...]:
        """Names of the compartments, in the order of the columns."""
        return self._compartments([self._ends(key) for key, _ in self._pairs])

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names `name.compartment` of the columns."""
        return tuple(f"{self.name}.{compartment}" for compartment in self.compartments)

    @property
    def parameters(self) -> dict[str, Param]:
        """Rates by transfer, and the parameters of the response by full name."""
        shared = {} if self.irf is None else self.irf.parameters
        return dict(self._pairs) | shared

    @property
    def domain(self) -> Domain:
        """Rates are not negative."""
        shared = {} if self.irf is None else self.irf.domain
        return shared | {key: POSITIVE for key, _ in self._pairs}

    @property
    def rowwise(self) -> bool:
        """Every row is made of its own x, if nobody has changed the formula."""
        return type(self).evaluate is Kinetics.evaluate

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> Array:
        """Concentrations (m, n) at x (m,); NaN before the origin."""
        x = jnp.asarray(from_origin(x, self.origin))
        # By position: names are gone from a basis that is compiled.
        rates = jnp.stack([jnp.asarray(v) for key, v in values.items() if "." not in key])
        k = self.matrix(rates)
        amounts = [amount for _, amount in self.initial] or [np.ones(())]
        start = jnp.stack(amounts).astype(k.dtype)
        start = summed_at(start, self.filled, k.shape[0])
        known = ~self._on_a_cycle()
        if self.irf is not None:
            return self.irf.convolve_states(x, k, start, self.irf.local_values(values), known)
        concentrations = states(k, start, jnp.maximum(x, 0.0), known)
        return jnp.where((x < 0)[:, None], jnp.nan, concentrations)

    def matrix(self, rates: Float[Array, " r"]) -> Float[Array, "n n"]:
        """Rate matrix K (n, n), per unit of x, for rates (r,) in the order of the transfers."""
        source, target = np.array(self.arrows).T
        n = 1 + max(max(pair) for pair in self.arrows)
        retained = target >= 0
        moved = jnp.concatenate([-rates, taken(rates, np.flatnonzero(retained))])
        to = np.concatenate([source, target[retained]])
        return summed_at(moved, to * n + np.concatenate([source, source[retained]]), n * n).reshape(
            n, n
        )

    def _on_a_cycle(self) -> np.ndarray:
        """Flags (n,) of the compartments on a cycle of transfers."""
        n = 1 + max(max(pair) for pair in self.arrows)
        reachable = np.zeros((n, n), bool)
        for a, b in self.arrows:
            if b >= 0:
                reachable[a, b] = True
        for _ in range(n):
            reachable = reachable | (reachable @ reachable)
        return np.diag(reachable)

    def modes(
        self, rates: Mapping[str, float]
    ) -> tuple[Inexact[np.ndarray, " n"], Inexact[np.ndarray, "n n"]]:
        """Concentrations as sums of decays: `c_i(t) = sum_l amplitudes[i, l] exp(-rates[l] t)`.

        With species-associated spectra S (n, k), the coefficients of a fit, the decay-associated ones
        are `amplitudes.T @ S`.

        **Arguments:** `rates` by the names of the transfers, with or without that of the component.

        **Returns:** the rates, fastest first, and the amplitudes; complex where the scheme
        oscillates.

        **Raises:** `InputError` if a rate is missing, or if the scheme has no such form: with equal
        rates one after the other a concentration is no sum of decays.
        """
        names = [key for key, _ in self._pairs]
        missing = [k for k in names if k not in rates and self.parameter_name(k) not in rates]
        if missing:
            raise InputError(f"Kinetics '{self.name}': no rate for '{missing[0]}' is given.")
        values = [float(rates[k] if k in rates else rates[self.parameter_name(k)]) for k in names]
        n = len(self.compartments)
        k = np.zeros((n, n))
        for (a, b), value in zip(self.arrows, values, strict=True):
            k[a, a] -= value
            if b >= 0:
                k[b, a] += value
        start = np.zeros(n)
        start[list(self.filled)] = [amount for _, amount in self.initial] or [1.0]
        eigenvalues, vectors = np.linalg.eig(k)
        if not np.linalg.cond(vectors) < _DEPENDENT:
            raise InputError(
                f"Kinetics '{self.name}' has equal or nearly equal rates one after the other: its "
                "concentrations are no sums of decays."
            )
        order = np.argsort(np.real(eigenvalues), kind="stable")
        return -eigenvalues[order], (vectors * np.linalg.solve(vectors, start))[:, order]

    def prepared(self, x: PyTree, dtype: np.dtype) -> "Kinetics":
        """Place the origin. **Raises:** `InputError` for x before it."""
        if self.irf is not None:
            return self
        origin = shape_origin(x, self.origin, dtype)
        remedy = "Leave those samples out, shift x, give origin=, or give it a response, irf=."
        check_begins(f"Kinetics '{self.name}'", x, origin, remedy)
        return with_origin(self, origin)
