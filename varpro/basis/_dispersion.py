"""Dispersion: time zero and width of a response as functions of the wavelength of a right-hand side.

With the distance u from a central wavelength, parameters follow polynomials without a constant term,

    center(u) = center + d_1 u + d_2 u^2 + ...,      u = (wavelength - dispersion_center) / 100

or, of wavenumbers, u = 1000 / wavelength - 1000 / dispersion_center, as in TIMP (Mullen and van Stokkum, J.
Stat. Softw. 18(3), 2007) and pyglotaran. A time zero that was measured at some wavelengths is added to it.
A response that has dispersion is another one for each right-hand side; `Sides` is what it knows of them.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from .._errors import InputError
from .._given.arguments import number
from .._given.containers import real_numbers
from .._parameters.param import Param
from .._types import ArrayIn
from ._response import AbstractResponse

Tree = TypeVar("Tree")

if TYPE_CHECKING:

    class Powers:
        """A field that takes a `Param` or a plain start, or several, and holds a tuple of `Param`."""

        def __get__(self, instance: object, owner: Any = None) -> tuple[Param, ...]: ...
        def __set__(
            self, instance: object, value: "Param | float | Sequence[Param | float]"
        ) -> None: ...

    class Chirp:
        """A field that takes wavelengths and times zero, and holds them ascending (2, r), or None."""

        def __get__(self, instance: object, owner: Any = None) -> "np.ndarray | None": ...
        def __set__(self, instance: object, value: object) -> None: ...

    class Wavelengths:
        """A field that takes numbers, and holds an array (k,) or None."""

        def __get__(self, instance: object, owner: Any = None) -> "np.ndarray | None": ...
        def __set__(self, instance: object, value: object) -> None: ...
else:
    Powers = tuple[Param | None, ...]
    Chirp = Float[np.ndarray, "2 r"] | None
    Wavelengths = Float[np.ndarray, " k"] | None


class Sides(eqx.Module):
    """Where right-hand sides lie, arrays (k,); of one of them, scalars: the `distance` u from the centre of
    the dispersion, and the `delay` that is given for them."""

    distance: Float[ArrayIn, " *k"]
    delay: Float[ArrayIn, " *k"]


def _as_powers(value: Any) -> tuple[Any, ...]:
    """Coefficients of u, u^2 and so on; one without a start begins at 0, or at its nearest bound."""
    if value is None:
        return ()
    items = [value] if isinstance(value, Param) or np.ndim(value) == 0 else list(value)
    found = []
    for one in items:
        param = one
        if one is not None and not isinstance(one, Param):
            param = Param(number("A coefficient of a dispersion", one, "model"))
        elif one is not None and one.init is None:
            start = float(np.clip(0.0, one.lower, one.upper))
            param = Param(start, lower=one.lower, upper=one.upper, fixed=one.fixed, prior=one.prior)
        found.append(param)
    return tuple(found)


def powers() -> Any:
    """A dataclass field for the coefficients of a polynomial, keyword only; none by default."""
    return eqx.field(default=(), converter=_as_powers, kw_only=True)


def _as_chirp(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    table = real_numbers("A chirp", value).astype(float)
    if table.ndim == 2 and table.shape[0] != 2 and table.shape[1] == 2:
        table = table.T
    if table.ndim != 2 or len(table) != 2 or table.shape[1] < 2:
        raise InputError(
            "A chirp is a pair of wavelengths and times zero (r,), or an array (r, 2) of both, two or more of "
            f"them; it has shape {table.shape}.",
            argument="model",
        )
    if not np.isfinite(table).all():
        raise InputError("A chirp has values that are not finite. Leave them out.")
    table = table[:, np.argsort(table[0], kind="stable")]
    same = np.flatnonzero(np.diff(table[0]) == 0)
    if same.size:
        raise InputError(
            f"A chirp has the wavelength {table[0, same[0]]:g} twice. Give each of them once."
        )
    return table


def _as_wavelengths(value: Any) -> np.ndarray | None:
    return None if value is None else real_numbers("wavelengths", value).astype(float)


_AXES = ("wavelength", "wavenumber")


class AbstractDispersed(AbstractResponse):
    """A response of which parameters may follow the wavelength of a right-hand side.

    **Arguments** that all have: `dispersion_center`, `dispersion_in`, `chirp` and `wavelengths`, as in
    `GaussianIRF`. `sides` is what is known of right-hand sides once their wavelengths are.
    """

    dispersion_center: float | None = eqx.field(static=True, default=None, kw_only=True)
    dispersion_in: str = eqx.field(static=True, default="wavelength", kw_only=True)
    chirp: Chirp = eqx.field(default=None, converter=_as_chirp, kw_only=True)
    wavelengths: Wavelengths = eqx.field(default=None, converter=_as_wavelengths, kw_only=True)
    sides: Sides | None = eqx.field(default=None, kw_only=True, repr=False)

    @property
    @abc.abstractmethod
    def polynomials(self) -> dict[str, tuple[Param, ...]]:
        """Coefficients of u, u^2 and so on of what follows the wavelength, by the name of their field."""

    @property
    def _label(self) -> str:
        return f"{type(self).__name__} '{self.name or 'irf'}'"

    def __check_init__(self):
        label, center, axis = self._label, self.dispersion_center, self.dispersion_in
        if axis not in _AXES:
            raise InputError(f"{label}: dispersion_in must be one of {_AXES}, not {axis!r}.")
        if not any(self.polynomials.values()):
            return
        said = next(key for key, some in self.polynomials.items() if some)
        if center is None:
            raise InputError(
                f"{label}: {said} needs dispersion_center, the wavelength at which it adds nothing, such as 500."
            )
        if not np.isfinite(center) or (axis == "wavenumber" and center <= 0):
            raise InputError(
                f"{label}: dispersion_center must be a finite {'and positive ' * (axis != _AXES[0])}wavelength, "
                f"not {center!r}."
            )
        for key, some in self.polynomials.items():
            for i, one in enumerate(some, 1):
                if one is None or one.init is None or not np.isfinite(one.init):
                    raise InputError(f"{label}: {key}{i} needs a finite start.")

    @property
    def disperses(self) -> bool:
        """Whether a parameter follows a wavelength that is not known yet."""
        asked = self.chirp is not None or any(self.polynomials.values())
        return self.sides is None and asked

    def at_wavelengths(
        self, wavelengths: np.ndarray | None, count: int, dtype: np.dtype
    ) -> "AbstractDispersed":
        """Fill in where right-hand sides lie along the dispersion.

        **Raises:** `InputError` without wavelengths, for those that are not finite or lie where a chirp was
        not measured, and for polynomials that so few cannot determine.
        """
        label, center, axis = self._label, self.dispersion_center, self.dispersion_in
        own = wavelengths if self.wavelengths is None else self.wavelengths
        if own is None:
            raise InputError(
                f"{label} has a dispersion, for which the wavelengths of right-hand sides must be known. Give y "
                "with labels, as a DataArray with a coordinate of numbers or a DataFrame whose columns are "
                f"numbers, or wavelengths= ({count},) to the response."
            )
        at = np.asarray(own, float)
        if at.shape != (count,):
            raise InputError(
                f"{label}: wavelengths has shape {at.shape}, but there are {count} right-hand sides."
            )
        if not np.isfinite(at).all():
            i = int(np.argmin(np.isfinite(at)))
            raise InputError(
                f"{label}: wavelength {i} (counted from 0) is {at[i]}, which is not finite."
            )
        if axis == "wavenumber" and (at <= 0).any():
            raise InputError(f"{label}: wavelengths must be positive, but one is {at.min():g}.")
        different = np.unique(at).size
        for key, some in self.polynomials.items():
            free = [one for one in some if one is not None and not one.fixed]
            if free and len(some) >= different:
                raise InputError(
                    f"{label}: {key} has {len(some)} coefficients, a polynomial of degree {len(some)}, for which "
                    f"{len(some) + 1} different wavelengths are needed or more; there are {different}."
                )
        delay = np.zeros(count)
        if self.chirp is not None:
            chirp = np.asarray(self.chirp)
            low, high = chirp[0, 0], chirp[0, -1]
            outside = (at < low) | (at > high)
            if outside.any():
                i = int(np.argmax(outside))
                raise InputError(
                    f"{label}: the chirp was measured from {low:g} to {high:g}, which does not cover "
                    f"{int(outside.sum())} of the {count} wavelengths of the data, such as {at[i]:g}."
                )
            delay = np.interp(at, chirp[0], chirp[1])
        distance = np.zeros(count)
        if center is not None:
            one = axis == "wavelength"
            distance = (at - center) / 100.0 if one else 1000.0 / at - 1000.0 / center
        sides = Sides(distance.astype(dtype), delay.astype(dtype))
        return dataclasses.replace(self, sides=sides, chirp=None, wavelengths=None)

    def place(self) -> Sides | None:
        """Return where the one right-hand side lies at which it is evaluated; None without dispersion.

        **Raises:** `InputError` where it is not known which one it is.
        """
        if self.sides is None:
            if self.disperses:
                raise InputError(
                    f"{self._label} has a dispersion, so that it is another one for each wavelength. That is for "
                    "vp.fit of right-hand sides that share their parameters; columns of one wavelength each take a "
                    "response without dispersion."
                )
            return None
        if np.ndim(self.sides.distance) != 0:
            raise InputError(
                f"{self._label} has a dispersion: right-hand sides have no basis in common, which this needs."
            )
        return self.sides


def polynomial(values: Mapping[str, ArrayIn], key: str, u: ArrayIn) -> ArrayIn | float:
    """`d_1 u + d_2 u^2 + ...` with the coefficients `key1`, `key2` and so on among `values`."""
    degree = 0
    while f"{key}{degree + 1}" in values:
        degree += 1
    total: Any = 0.0
    for i in range(degree, 0, -1):
        total = (total + values[f"{key}{i}"]) * u
    return total


def sides_in(tree: PyTree) -> list[Sides]:
    """The places of several right-hand sides that the formulas in a tree know."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Sides))
    return [one for one in leaves if isinstance(one, Sides) and np.ndim(one.distance) == 1]


def at_side(tree: Tree, j: ArrayIn | int) -> Tree:
    """The same formulas for right-hand side j alone, or for those with the numbers in j."""

    def chosen(node: Any) -> Any:
        if not isinstance(node, Sides) or np.ndim(node.distance) == 0:
            return node
        host = isinstance(j, int | np.ndarray)
        pick = (lambda a: np.asarray(a)[j]) if host else (lambda a: jnp.asarray(a)[j])
        return Sides(pick(node.distance), pick(node.delay))

    return jax.tree.map(chosen, tree, is_leaf=lambda node: isinstance(node, Sides))
