"""What a reader of many fits should know."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._programs.program import program
from .._statistics.diagnostics import CANCEL, Finding, judged_together
from .._text import listed
from .._types import ArrayIn, precision
from ..basis import Model
from .batch_record import BatchRecord

# The share of curves from which on a finding is one, and how many curves are looked at.
_SOME, _LOOKED_AT = 0.01, 256


def findings(fit: BatchRecord) -> tuple[Finding, ...]:
    """Described in `BatchFit.diagnostics`."""
    found = [Finding("failed", fit.message)] if fit.message else []
    good = fit.success
    if not good.any():
        return tuple(found)
    share = f"of the {int(good.sum())} curves that converged"
    for i in fit.layout.free:
        name, at = fit.names[i], fit.alpha[..., i][good]
        param = fit.params[name]
        on = np.mean((at <= float(param.lower)) | (at >= float(param.upper)))
        if on > _SOME and float(param.lower) < float(param.upper):
            says = f"{name} lies on a bound in {100 * on:.3g} % {share}: errors are withheld there."
            found.append(Finding("bound", says, (name,)))
    lost = tuple(
        name
        for name in (*fit.names, *fit.columns)
        if np.mean(np.isinf(np.asarray(fit.estimate(name).stderr)[good])) > _SOME
    )
    if lost:
        says = f"The data do not determine {listed(lost)} in more than a hundredth {share}."
        found.append(Finding("undetermined", says, lost))
    return tuple([*found, *_cancelling(fit, good)])


def _cancelling(fit: BatchRecord, good: np.ndarray) -> list[Finding]:
    """Amplitudes far over the data, in some of the curves that converged."""
    places = np.argwhere(good)[:: max(1, -(-int(good.sum()) // _LOOKED_AT))]
    alpha = np.stack([fit.alpha[tuple(at)] for at in places])
    coef = np.stack([fit.coef[tuple(at)] for at in places])
    order = np.argsort(fit.model.order)
    with precision(fit.alpha.dtype):
        own = fit.own_positions
        x = fit.x if own is None else np.stack([own[tuple(at)] for at in places])
        together = judged_together(fit.model, fit.layout)
        # Columns are computed in another order.
        columns = tuple(tuple(fit.model.order[i] for i in one) for one in together)
        found = _sizes(fit.model, x, alpha, coef[:, order], own is not None, columns)
        size, total = jax.device_get(found)
    with np.errstate(invalid="ignore"):
        apart = size.max(axis=1, initial=0.0) > CANCEL * total
    if not np.mean(apart & (total > 0)) > _SOME:
        return []
    large = (size > 0.1 * size.max(axis=1, keepdims=True))[apart].mean(axis=0) > 0.5
    names = tuple(
        fit.columns[i] for i in np.sort(sum((together[j] for j in np.flatnonzero(large)), []))
    )
    says = (
        f"In {100 * np.mean(apart):.3g} % of {len(places)} curves contributions are more than "
        f"{CANCEL:.0f} times their sum ({listed(names)}): they cancel, and their coefficients are not "
        "to be trusted one by one."
    )
    return [Finding("cancelling", says, names)]


@program
def _sizes(
    model: Model,
    x: PyTree,
    alpha: Float[ArrayIn, "b q"],
    coef: Inexact[ArrayIn, "b n"],
    own: bool,
    together: tuple[tuple[int, ...], ...],
) -> tuple[Float[Array, "b t"], Float[Array, " b"]]:
    """The norms of the contributions of each curve, of columns `together`, and of their sum; `own`: each has
    its row of x."""

    def one(values, c, x):
        phi = model.evaluate(x, values)
        parts = [phi[:, np.array(one)] @ c[np.array(one)] for one in together]
        return jnp.linalg.norm(jnp.stack(parts), axis=1), jnp.linalg.norm(phi @ c)

    x = jax.tree.map(jnp.asarray, x)
    axes = (0, 0, 0 if own else None)
    return jax.vmap(one, in_axes=axes)(jnp.asarray(alpha), jnp.asarray(coef), x)
