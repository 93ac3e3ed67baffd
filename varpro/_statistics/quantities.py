"""Names of a fit as single numbers, with their values, covariance and the variance of the noise."""

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np

from .._errors import InputError
from .._given.arguments import names as names_in, whole
from .._parameters.layout import expand
from .joint_covariance import Optimum, Quantity, scaled, unit_covariance
from .record import AbstractLeastSquares, Fitted
from .student import student


def quantities(
    fit: AbstractLeastSquares,
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
    needs_record(fit)
    parts, layout = list(fit.parts.values()), fit.layout
    sides = [None if len(parts) > 1 else _sides(one, rhs) for one in parts]
    columns = {
        f"{key}{name}": (s, one.model.order[i])
        for s, (key, one) in enumerate(fit.parts.items())
        for i, name in enumerate(one.columns)
    }
    if names is None:
        asked = [fit.names[i] for i in layout.free]
        asked += [n for n, (s, _) in columns.items() if rhs is not None or parts[s].coef.ndim == 1]
    else:
        known = (*fit.names, *columns)
        words = names_in("names", names)
        asked = list(dict.fromkeys(n for word in words for n in expand(word, known, "names")))
    found = []
    for name in asked:
        if name in fit.names:
            i = fit.names.index(name)
            if moving and not layout.roots(i) & {*layout.free}:
                raise InputError(f"'{name}' is fixed: it has no interval.")
            found.append(Quantity(name, i))
            continue
        s, i = columns[name]
        one, mine = parts[s], sides[s]
        for j in _sides(one, rhs) if mine is None else mine:
            label = name if one.coef.ndim == 1 else f"{name}[{one.data_names.column(j)}]"
            if np.iscomplexobj(one.coef):
                found.append(Quantity(f"{label}.real", i, j, part=s))
                found.append(Quantity(f"{label}.imag", i, j, imag=True, part=s))
            else:
                found.append(Quantity(label, i, j, part=s))
    return tuple(found)


def single_quantity(fit: AbstractLeastSquares, name: str, rhs: int | None) -> Quantity:
    """The one number that a name means, with ".real" or ".imag" for a part of a complex one.

    **Raises:** `InputError` for what is none, or several.
    """
    if not isinstance(name, str):
        raise InputError(f"A name is expected, not {name!r}.", argument="name")
    found = quantities(fit, name.removesuffix(".real").removesuffix(".imag"), rhs, moving=True)
    if len(found) == 2 and name.endswith((".real", ".imag")):
        found = found[:1] if name.endswith(".real") else found[1:]
    if len(found) != 1:
        raise InputError(
            f"'{name}' is {len(found)} numbers ({', '.join(q.label for q in found[:4])}). Name "
            "one, with rhs= for a right-hand side and .real or .imag for a part."
        )
    return found[0]


def needs_record(fit: AbstractLeastSquares) -> None:
    """Refuse a fit of several data sets that was written before its covariance was kept."""
    if fit.optimum is None:
        raise InputError(
            "This fit was read from a file of an older version, which does not hold what this takes. "
            "Fit the data again."
        )


def _sides(fit: Fitted, rhs: int | Sequence[int] | None) -> list[int]:
    k = 1 if fit.coef.ndim == 1 else fit.coef.shape[1]
    if rhs is None:
        return list(range(k))
    sides = [whole("rhs", j) for j in (rhs if isinstance(rhs, Iterable) else [rhs])]
    for j in sides:
        if not 0 <= j < k:
            raise InputError(f"rhs={j} is not one of the {k} right-hand sides, counted from 0.")
    return sides


def values(fit: AbstractLeastSquares, chosen: Sequence[Quantity]) -> np.ndarray:
    """The values of the quantities (r,)."""
    coefs = [one.coef[None] for one in fit.parts.values()]
    return drawn(fit, chosen, fit.alpha[None], coefs)[0].astype(float)


def drawn(
    fit: AbstractLeastSquares,
    chosen: Sequence[Quantity],
    alpha: np.ndarray,
    coefs: Sequence[np.ndarray],
) -> np.ndarray:
    """The quantities (b, r) of b draws of parameter values (b, q) and, for each data set, coefficients
    (b, n) or (b, n, k)."""
    parts = list(fit.parts.values())
    columns = []
    for one in chosen:
        if one.rhs is None:
            columns.append(alpha[:, one.index])
        else:
            mine, place = coefs[one.part], parts[one.part].model.order.index(one.index)
            found = mine.reshape(*mine.shape[:2], -1)[:, place, one.rhs]
            columns.append(np.imag(found) if one.imag else np.real(found))
    return np.stack(columns, axis=1) if columns else np.zeros((len(alpha), 0))


def optima(fit: AbstractLeastSquares) -> list[Optimum]:
    """The optimum of each data set."""
    return [one.optimum for one in fit.parts.values()]


def picks_of(fit: AbstractLeastSquares) -> list[np.ndarray]:
    """For each data set the places of its parameters among all."""
    names = {name: i for i, name in enumerate(fit.names)}
    return [
        np.array(
            [names[f"{key}{own}" if f"{key}{own}" in names else own] for own in one.names], int
        )
        for key, one in fit.parts.items()
    ]


def noise_variance(fit: AbstractLeastSquares) -> float:
    """The factor on variances for unit noise: 1 if sigma is absolute, else the reduced chi-square; of a
    robust loss what its residuals tell (`AbstractNoise.spread`)."""
    # Every data set of a fit of several knows the noise of all.
    one = next(iter(fit.parts.values()))
    if one.pooled is not None:
        return one.pooled[0]
    if one.spread is not None:
        return one.spread
    return 1.0 if fit.absolute_sigma else fit.redchi


def covariance(fit: AbstractLeastSquares, chosen: Sequence[Quantity]) -> np.ndarray:
    """Joint covariance (r, r), with the scale of `fit.covariance`."""
    return scaled(unit_covariance(fit.optimum, chosen, optima(fit)), noise_variance(fit))


def complex_covariance(
    fit: Fitted, names: str | Sequence[str] | None, rhs: int | Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """`E[d d^H]` and `E[d d^T]` (r, r) of deviations d of complex coefficients."""
    if not np.iscomplexobj(fit.coef):
        raise InputError("The coefficients are real: covariance_of has their covariance.")
    words = fit.columns if names is None else names_in("names", names)
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


def quantile(fit: AbstractLeastSquares, level: float) -> float:
    """How many standard errors an interval of this level reaches to either side.

    Student's t with `fit.dof` where the noise is estimated from the residual, else the normal.
    """
    return student(noise_dof(fit), level)


def noise_dof(fit: AbstractLeastSquares) -> float:
    """Degrees of freedom of the estimate of the noise, infinite where it is known."""
    if fit.absolute_sigma:
        return float("inf")
    pooled = next(iter(fit.parts.values())).pooled
    return float(fit.dof if pooled is None else pooled[1])


def check_choice(value: object, choices: object, what: str) -> None:
    """Refuse what is none of the strings of a `Literal`."""
    if value not in (known := get_args(choices)):
        raise InputError(f"{what} must be one of {', '.join(map(repr, known))}, not {value!r}.")
