"""Names of a fit as single numbers, with their values, covariance and the variance of the noise."""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from .._errors import InputError
from .._parameters.layout import expand
from .joint_covariance import Quantity, scaled, unit_covariance
from .record import Fitted


def quantities(
    fit: Fitted,
    names: str | Sequence[str] | None = None,
    rhs: int | Sequence[int] | None = None,
    *,
    moving: bool = False,
) -> tuple[Quantity, ...]:
    """What `names`, or patterns such as "*.tau", stand for, in their order.

    A coefficient of several right-hand sides is one quantity for each in `rhs` ("fast[3]"), a
    complex one is two ("fast.real", "fast.imag"). Without `names`: the parameters that are neither
    fixed nor tied, then the coefficients of the right-hand sides in `rhs`; where there are several
    and no `rhs` is given, none of them. With `moving`, a fixed parameter is refused.

    **Raises:** `InputError` for unknown names and right-hand sides.
    """
    sides = _sides(fit, rhs)
    layout = fit.layout
    if names is None:
        asked = [fit.names[i] for i in layout.free]
        if rhs is not None or fit.coef.ndim == 1:
            asked += fit.columns
    else:
        known = (*fit.names, *fit.columns)
        words = [names] if isinstance(names, str) else list(names)
        asked = list(dict.fromkeys(n for word in words for n in expand(word, known, "names")))
    found = []
    for name in asked:
        if name in fit.names:
            i = fit.names.index(name)
            if moving and layout.source[i] not in layout.free:
                raise InputError(f"'{name}' is fixed: it has no interval.")
            found.append(Quantity(name, i))
            continue
        i = fit.model.order[fit.columns.index(name)]
        for j in sides:
            label = name if fit.coef.ndim == 1 else f"{name}[{j}]"
            if np.iscomplexobj(fit.coef):
                found.append(Quantity(f"{label}.real", i, j))
                found.append(Quantity(f"{label}.imag", i, j, imag=True))
            else:
                found.append(Quantity(label, i, j))
    return tuple(found)


def _sides(fit: Fitted, rhs: int | Sequence[int] | None) -> list[int]:
    k = 1 if fit.coef.ndim == 1 else fit.coef.shape[1]
    if rhs is None:
        return list(range(k))
    sides = [rhs] if isinstance(rhs, int | np.integer) else list(rhs)
    for j in sides:
        if not 0 <= j < k:
            raise InputError(f"rhs={j} is not one of the {k} right-hand sides, counted from 0.")
    return [int(j) for j in sides]


def values(fit: Fitted, chosen: Sequence[Quantity]) -> np.ndarray:
    """The values of the quantities (r,)."""
    at = dict(zip(fit.model.order, range(len(fit.columns)), strict=True))
    coef = fit.coef.reshape(len(fit.columns), -1)
    out = []
    for one in chosen:
        if one.rhs is None:
            out.append(fit.alpha[one.index])
        else:
            value = coef[at[one.index], one.rhs]
            out.append(value.imag if one.imag else value.real)
    return np.array(out, float)


def noise_variance(fit: Fitted) -> float:
    """The factor on variances for unit noise: 1 if sigma is absolute, else the reduced chi-square."""
    if fit.pooled is not None:
        return fit.pooled[0]
    return 1.0 if fit.absolute_sigma else fit.redchi


def covariance(fit: Fitted, chosen: Sequence[Quantity]) -> np.ndarray:
    """Joint covariance (r, r), with the scale of `fit.covariance`."""
    return scaled(unit_covariance(fit.optimum, chosen), noise_variance(fit))


def complex_covariance(
    fit: Fitted, names: str | Sequence[str] | None, rhs: int | Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """`E[d d^H]` and `E[d d^T]` (r, r) of deviations d of complex coefficients."""
    if not np.iscomplexobj(fit.coef):
        raise InputError("The coefficients are real: covariance_of has their covariance.")
    words = fit.columns if names is None else [names] if isinstance(names, str) else list(names)
    chosen = [n for word in words for n in expand(word, fit.columns, "names")]
    found = covariance(fit, quantities(fit, list(dict.fromkeys(chosen)), rhs))
    parts = found.reshape(len(found) // 2, 2, len(found) // 2, 2)
    rr, ri, ir, ii = (parts[:, a, :, b] for a in (0, 1) for b in (0, 1))
    with np.errstate(invalid="ignore"):  # what the data do not determine has no relation
        return _complex(rr + ii, ir - ri), _complex(rr - ii, ir + ri)


def _complex(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    out = np.empty(real.shape, complex)
    out.real, out.imag = real, imag
    return out


def quantile(fit: Fitted, level: float) -> float:
    """How many standard errors an interval of this level reaches to either side.

    Student's t with `fit.dof` where the noise is estimated from the residual, else the normal.
    """
    from scipy.special import ndtri, stdtrit  # takes a while to import

    check_level(level)
    tail = 0.5 * (1.0 + level)
    if fit.absolute_sigma:
        return float(ndtri(tail))
    dof = fit.dof if fit.pooled is None else fit.pooled[1]
    return float(stdtrit(dof, tail)) if dof > 0 else float("nan")


def check_level(level: float, what: str = "level") -> None:
    """Refuse what is no probability between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise InputError(f"{what} must lie between 0 and 1, such as 0.95; {level!r} was given.")


def check_choice(value: object, choices: object, what: str) -> None:
    """Refuse what is none of the strings of a `Literal`."""
    if value not in (known := get_args(choices)):
        raise InputError(f"{what} must be one of {', '.join(map(repr, known))}, not {value!r}.")
