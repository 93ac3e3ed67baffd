"""What a fit should tell of itself without being asked, in words. Quiet for a good fit."""

from collections.abc import Collection, Iterator

import equinox as eqx
import numpy as np

from .._parameters.inequality import Inequality
from .._parameters.layout import Layout
from .._text import listed
from ..basis import Model
from .record import AbstractLeastSquares, Fitted
from .residual_tests import chisq_tail, lag_test, ordered_residuals, runs_test

# The level of the tests of randomness: one good fit in a thousand raises a false alarm, or fewer.
LEVEL = 1e-3
CORRELATED = 0.99
# Two columns of this cosine are two lifetimes 9 % apart, or two peaks at 6 % of their width.
PARALLEL = 0.999
# Contributions this many times larger than their sum cancel.
CANCEL = 1e3


class Finding(eqx.Module):
    """Something about a fit that its reader should know.

    **Fields:** `code`, one of "no-dof", "rank", "zero-column", "cond", "parallel", "undetermined",
    "bound", "correlated", "vanishing", "cancelling", "runs", "autocorrelation", "chisq"; `message`,
    a sentence or two; `names` of the parameters and columns concerned.
    """

    code: str
    message: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


def diagnose(fit: Fitted, followers: Collection[str] = ()) -> tuple[Finding, ...]:
    """All findings, what makes numbers meaningless first. `followers`: parameters that follow others by
    relations of which this fit does not know, as one data set among several."""
    with np.errstate(all="ignore"):
        if not np.isfinite(fit.coef).all() or not np.isfinite(fit.alpha).all():
            return ()  # the message of the failed fit says all
        phi = _weighted_columns(fit)
        return (
            *_errors_withheld(fit),
            *_columns(fit, phi),
            *_undetermined(fit),
            *_correlated(fit, followers),
            *_components(fit, phi),
            *_randomness(fit),
        )


def _weighted_columns(fit: Fitted) -> np.ndarray:
    """The weighted basis (m, n) on the samples in use."""
    phi, _ = fit._evaluate(fit.x)
    if fit.weights is None:
        return phi
    # Of weights that differ between right-hand sides, their root mean square.
    weights = np.sqrt(np.mean(fit.weights.reshape(len(phi), -1) ** 2, axis=1))
    used = weights > 0
    phi = np.where(used[:, None], phi, 0.0) * weights[:, None]
    return fit.whitened(phi)[used]


def _errors_withheld(fit: Fitted) -> Iterator[Finding]:
    if fit.dof <= 0 and not fit.absolute_sigma:
        yield Finding(
            "no-dof",
            f"There are as many parameters as data ({fit.num_data}), so the noise is unknown and "
            "no standard error can be given.",
        )
    bound = tuple(name for name, on in zip(fit.names, fit.at_bound, strict=True) if on)
    within = (
        tuple(n for n in bound if fit[n].value not in (fit[n].lower, fit[n].upper))
        if fit.layout.inequalities
        else ()
    )
    bound = tuple(n for n in bound if n not in within)
    yield from inequalities_met(fit, within)
    if bound:
        notes = [next(n for n in fit[b].notes if n.startswith("on its")) for b in bound]
        if len(bound) == 1:
            says = f"{bound[0]} lies {notes[0]}, {fit[bound[0]].value:g}: its standard error is"
        else:
            said = [f"{b} {note}" for b, note in zip(bound, notes, strict=True)]
            says = f"{listed(said)}: their standard errors are"
        yield Finding(
            "bound", f"{says} withheld (NaN), and those of the others hold it fixed there.", bound
        )


def inequalities_met(
    fit: AbstractLeastSquares, without_error: tuple[str, ...]
) -> Iterator[Finding]:
    """Which inequalities hold as equalities, and the parameters in them that have no error."""
    met = [text for text in fit.layout.inequalities if _is_met(fit, text)]
    if not met:
        return
    says = f"{listed([repr(text) for text in met])} {'holds' if len(met) == 1 else 'hold'} as an equality"
    if without_error:
        one = "the standard error of" if len(without_error) == 1 else "the standard errors of"
        is_ = "is" if len(without_error) == 1 else "are"
        says += f": {one} {listed(without_error)} {is_} withheld (NaN), and those of the others keep to it"
    yield Finding("bound", f"{says}.", without_error)


def _is_met(fit: AbstractLeastSquares, text: str) -> bool:
    """Whether an inequality holds as an equality, to rounding."""
    for one in Inequality.parse(text, fit.names):
        parts = [v * float(fit.alpha[fit.names.index(name)]) for name, v in one.slopes.items()]
        size = max(abs(one.limit), *map(abs, parts))
        if abs(sum(parts) - one.limit) <= 100 * float(np.finfo(fit.alpha.dtype).eps) * size:
            return True
    return False


def _columns(fit: Fitted, phi: np.ndarray) -> Iterator[Finding]:
    """Columns that are zero, depend on others, or nearly do."""
    phi, columns = _sought(fit, phi)
    size = np.linalg.norm(phi, axis=0)
    zero = tuple(name for name, s in zip(columns, size, strict=True) if not s > 0)
    if zero:
        yield Finding(
            "zero-column",
            f"{listed(zero)} {'are' if len(zero) > 1 else 'is'} zero at every sample, so no "
            "coefficient can be found.",
            zero,
        )
    unit = phi[:, size > 0] / size[size > 0]
    names = [name for name, s in zip(columns, size, strict=True) if s > 0]
    worst = float(np.finfo(fit.alpha.dtype).eps) ** -0.5
    if fit.rank < len(columns) - len(zero) or fit.cond > worst:
        # The triangle has the right singular vectors of the matrix.
        _, s, v = np.linalg.svd(np.linalg.qr(unit, mode="r"))
        if fit.rank < len(names):
            lost = np.flatnonzero(np.sum(v[fit.rank :] ** 2, axis=0) > 1e-6)
            dependent = tuple(names[i] for i in lost)
            yield Finding(
                "rank",
                f"The basis has rank {fit.rank} of {len(columns)}: {listed(dependent)} are "
                "linearly dependent at the solution, so only a combination of their coefficients "
                "is known.",
                dependent,
            )
        else:
            nearly = tuple(names[i] for i in np.flatnonzero(np.abs(v[-1]) > 0.01))
            yield Finding(
                "cond",
                f"{listed(nearly)} are nearly dependent (condition number {fit.cond:.1e}): their "
                "coefficients have lost half of their digits or more.",
                nearly,
            )
    elif fit.cond > 10:  # two unit columns of cosine 0.999 alone make it 44
        cosine = np.abs(np.triu(unit.conj().T @ unit, 1))
        moved = dict(zip(fit.columns, _moved_by(fit.model, fit.layout), strict=True))
        # Those of one component that nothing moves, as powers of x, are a basis that was asked for.
        pairs = [
            (i, j)
            for i, j in np.argwhere(cosine > PARALLEL)
            if moved[names[i]] or moved[names[j]] or _component(names[i]) != _component(names[j])
        ]
        if pairs:
            pairs = np.array(pairs)
            pairs = pairs[np.argsort(-cosine[tuple(pairs.T)])]
            said = [f"{names[i]} and {names[j]} ({cosine[i, j]:.6f})" for i, j in pairs]
            yield Finding(
                "parallel",
                f"Columns of almost one shape, with the cosine between them: {listed(said)}. One "
                "of them may do.",
                tuple(dict.fromkeys(names[i] for i in pairs.ravel())),
            )
    if fit.cond_jac > worst:
        yield Finding(
            "cond",
            f"The nonlinear parameters can hardly be told apart (condition number of the Jacobian "
            f"{fit.cond_jac:.1e}).",
            tuple(fit.names[i] for i in fit.layout.free),
        )


def _sought(fit: Fitted, phi: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The basis of the coefficients that are sought, with the rows of a penalty."""
    linear = fit.linear
    if not linear.sought:
        return phi, fit.columns
    phi = phi[:, np.argsort(fit.model.order)]
    phi = phi if linear.mix is None else phi @ np.asarray(linear.mix)
    if linear.rows is not None:
        phi = np.concatenate([phi, np.asarray(linear.rows)])
    return phi, tuple(fit.model.columns[i] for i in linear.sought)


def _undetermined(fit: Fitted) -> Iterator[Finding]:
    lost = [n for n, e in zip(fit.names, fit.alpha_stderr, strict=True) if np.isinf(e)]
    lost += [n for n, e in zip(fit.columns, fit.coef_stderr, strict=True) if np.isinf(e).any()]
    flat = tuple(_flat(fit))
    if flat:
        yield Finding(
            "undetermined",
            f"The data hardly determine {listed(flat)}: a standard error away the fit is as good, so "
            "that error says no more than that nothing is known. Fix or remove what is not needed.",
            flat,
        )
    if lost:
        yield Finding(
            "undetermined",
            f"The data do not determine {listed(lost)}: other values fit as well, and the standard "
            "error is infinite. Fix or remove what is not needed.",
            tuple(lost),
        )


def _flat(fit: Fitted) -> Iterator[str]:
    """Parameters with errors larger than themselves to whose change the data do not object: where the
    others are held, chi-square must rise by one, in units of the variance, within the error that is left."""
    free, linear = fit.layout.free, fit.linear
    plain = not linear.sought and linear.penalty is None and not linear.bounded
    large = [i for i in free if np.abs(fit.alpha[i]) < fit.alpha_stderr[i] < np.inf]
    if not large or not plain or many(fit) or fit.layout.chained or fit.layout.tied:
        return
    variance = 1.0 if fit.absolute_sigma else fit.redchi
    # The others are those with an error: on a bound, or not determined at all, a parameter has none.
    unit = np.sqrt(np.diag(fit.covariance)[: len(free)])
    known = np.flatnonzero(np.isfinite(unit) & (unit > 0))
    unit = unit[known]
    held = np.linalg.pinv(fit.covariance[np.ix_(known, known)] / unit / unit[:, None])
    for j, i in enumerate(free[one] for one in known):
        if i not in large:
            continue
        step = unit[j] / np.sqrt(max(held[j, j], 1.0))
        rises = []
        for side in (-1.0, 1.0):
            alpha = fit.alpha.copy()
            alpha[i] += side * step
            rises.append((_squares(fit, alpha) - fit.chisq) / variance)
        if not any(0.1 < rise < np.inf for rise in rises):
            yield fit.names[i]


def _squares(fit: Fitted, alpha: np.ndarray) -> float:
    """Chi-square at other nonlinear parameters, with the best coefficients."""
    phi, offset = fit._evaluate(fit.x, alpha)
    y = fit.y_in_use if offset is None else fit.y_in_use - offset
    if fit.weights is not None:
        used = fit.weights > 0
        phi = np.where(used[:, None], phi, 0.0) * fit.weights[:, None]
        phi, y = (fit.whitened(a)[used] for a in (phi, y * fit.weights))
    if not np.isfinite(phi).all():
        return np.nan
    return float(np.sum(np.abs(y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]) ** 2))


def strong_pairs(fit: Fitted, above: float) -> list[tuple[str, str, float]]:
    """Pairs of estimates correlated by more than `above`, the strongest first.

    Of several right-hand sides only the nonlinear parameters, which they share.
    """
    r = fit.correlation
    shown = fit.num_free if many(fit) else len(fit.cov_names)
    r = r.reshape(-1, *r.shape[-2:])[0, :shown, :shown]
    lower = np.abs(np.tril(r, -1))
    # What follows another by a relation of the user's own is no finding.
    asked = {fit.model.columns[i] for i in fit.linear.sought} or set(fit.columns)
    own = np.array([n in asked or _part_of(n) in asked for n in fit.cov_names[:shown]], bool)
    own[: fit.num_free] = True
    lower *= own[:, None] & own
    found = np.argwhere(np.nan_to_num(lower) > above)
    found = found[np.argsort(-lower[tuple(found.T)], kind="stable")]
    return [(fit.cov_names[i], fit.cov_names[j], float(r[i, j])) for i, j in found]


def _part_of(name: str) -> str:
    """The column of which this is the real or the imaginary part."""
    return name.removesuffix(".real").removesuffix(".imag")


def many(fit: Fitted) -> bool:
    """Whether there are several right-hand sides."""
    return fit.coef.size > len(fit.columns)


def _correlated(fit: Fitted, followers: Collection[str]) -> Iterator[Finding]:
    moved = dict(zip(fit.columns, _moved_by(fit.model, fit.layout), strict=True))
    apart = lambda name: moved.get(name, frozenset()) or name in fit.names  # noqa: E731
    # Powers of x far from zero are correlated, and no reader takes them one by one.
    pairs = [
        pair
        for pair in strong_pairs(fit, CORRELATED)
        if not {*pair[:2]} & {*followers}
        if apart(pair[0]) or apart(pair[1]) or _component(pair[0]) != _component(pair[1])
    ]
    if pairs:
        said = [f"{a} and {b} ({r:+.4f})" for a, b, r in pairs]
        yield Finding(
            "correlated",
            f"Correlated so much that they can hardly be told apart: {listed(said)}.",
            tuple(dict.fromkeys(name for a, b, _ in pairs for name in (a, b))),
        )


def _components(fit: Fitted, phi: np.ndarray) -> Iterator[Finding]:
    """Components that are lost in the noise, and those that cancel each other."""
    n = len(fit.columns)
    coef = fit.coef.reshape(n, -1)
    weak = _weak(fit)
    if weak:
        few = [f"{w} ({fit[w].rounded[0]} +/- {fit[w].rounded[1]})" for w in weak if not many(fit)]
        yield Finding(
            "vanishing",
            f"Not distinguishable from zero: {listed(few or weak)}. Is the component needed? Its "
            "other parameters mean little.",
            tuple(weak),
        )
    together = judged_together(fit.model, fit.layout)
    parts = np.array([np.linalg.norm(phi[:, one] @ coef[one]) for one in together])
    total = np.linalg.norm(phi @ coef)
    if parts.max() > CANCEL * total > 0:
        several = [together[i] for i in np.flatnonzero(parts > 0.1 * parts.max())]
        large = tuple(fit.columns[i] for one in several for i in one)
        yield Finding(
            "cancelling",
            f"The contributions of {listed(large)} are {parts.max() / total:.2g} times larger than "
            "their sum: they cancel, and their coefficients are not to be trusted one by one.",
            large,
        )


def _weak(fit: Fitted) -> list[str]:
    """Columns of the components that are lost in the noise as a whole: of a wave sine and cosine."""
    n = len(fit.columns)
    coef, stderr = fit.coef.reshape(n, -1), fit.coef_stderr.reshape(n, -1)
    # Under no contribution each |c / stderr|^2 has mean 1 and variance 2 (1 if complex).
    against = np.sum(np.abs(coef / stderr) ** 2, axis=1)
    moved_by = _moved_by(fit.model, fit.layout)
    together: dict[tuple, list[int]] = {}
    for i, name in enumerate(fit.columns):
        together.setdefault((_component(name), moved_by[i]), []).append(i)
    weak = []
    for (_, moving), members in together.items():
        k = coef.shape[1] * len(members)
        if moving and against[members].sum() < k + 2 * (2 * k) ** 0.5:
            weak += members
    return [fit.columns[i] for i in sorted(weak)]


def _component(column: str) -> str:
    """The name of the component that a column belongs to: "o" of "o.sin"."""
    return column.rsplit(".", 1)[0]


def judged_together(model: Model, layout: Layout) -> list[list[int]]:
    """The places of columns that are one thing to a reader, by their names' order: those of one component that
    nothing moves, as the powers of x of a background, and every other one by itself."""
    names = [model.columns[i] for i in model.order]
    found: dict[tuple[str, str], list[int]] = {}
    for i, (name, moving) in enumerate(zip(names, _moved_by(model, layout), strict=True)):
        found.setdefault((_component(name), name if moving else ""), []).append(i)
    return list(found.values())


def _moved_by(model: Model, layout: Layout) -> list[frozenset[int]]:
    """The free nonlinear parameters on which each column depends."""
    found = layout.free_of(model.made_of())
    return [found[i] for i in model.order]


def _randomness(fit: Fitted) -> Iterator[Finding]:
    resid = ordered_residuals(fit)
    if resid is None:
        return
    misses = "The model misses something, or the noise is not independent."
    runs, lag = runs_test(resid), lag_test(resid)
    if runs is not None and runs.p < LEVEL:
        yield Finding(
            "runs",
            f"The residuals have {runs.runs} runs of one sign where {runs.expected:.0f} +/- "
            f"{runs.sd:.0f} are expected (p = {runs.p:.1g}). {misses}",
        )
        misses = ""
    if lag is not None and lag.p < LEVEL:
        yield Finding(
            "autocorrelation",
            f"Neighbouring residuals are correlated by {lag.correlation:.2f} (Durbin-Watson "
            f"{lag.durbin_watson:.2f}, p = {lag.p:.1g}). {misses}".strip(),
        )
    if fit.absolute_sigma and fit.dof > 0 and _has_chisq(fit):
        p = chisq_tail(fit.chisq, fit.dof)
        if p < LEVEL or p > 1 - LEVEL:
            side = "large" if p < LEVEL else "small"
            why = "too small or the model is not right" if p < LEVEL else "too large"
            yield Finding(
                "chisq",
                f"The reduced chi-square {fit.redchi:.3g} is too {side} for absolute standard "
                f"deviations: sigma is {why}.",
            )


def _has_chisq(fit: Fitted) -> bool:
    """Whether chi-square has the distribution of that name. Not under a robust loss, whose weights are
    smaller than those of sigma; and of counts only where few means are small (Cochran, Ann. Math. Stat.
    23 (1952) 315: no more than a fifth of them below five)."""
    if fit.noise == "poisson":
        return bool(np.mean(fit.fitted[fit.weights_of_all > 0] < 5.0) <= 0.2)
    return fit.spread is None
