"""`fit`: the door for one data set and for several."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack, overload

import numpy as np
from jaxtyping import PyTree

from ._batch.batch_fit import BatchFit
from ._batch.fit_many import fit_curves
from ._batch.labelled import make_cube
from ._batch.prepare import BatchSearch
from ._errors import FitError, InputError
from ._global.fit_global import fit_sets
from ._global.global_fit import GlobalFit
from ._parameters.param import Param
from ._parameters.tie import TieLike
from ._problem.compress import Compressed, DataBlocks, compress as _compress, is_stream
from ._problem.linear_constraints import CoefficientSpec, Penalties, Relation, Strength
from ._problem.model_like import ModelLike
from ._problem.noise import Noise, noise_model
from ._problem.options import Constraints, NanPolicy, Weighting
from ._reduced.abstract import Jacobian
from ._results.compressed_fit import CompressedFit
from ._results.fit_result import FitResult
from ._search.levenberg_marquardt import LevenbergMarquardt
from ._search.minimise import Solver, search
from ._search.multistart import Multistart
from ._single.fit_single import fit_one
from .linalg import AbstractPinvSolver


class _Options(TypedDict, total=False):
    init: Mapping[str, Param | float] | None
    bounds: Mapping[str, tuple] | None
    fix: str | Sequence[str]
    tie: Mapping[str, TieLike] | None
    order: Sequence[str] | Sequence[Sequence[str]]
    nonnegative: bool | str | Sequence[str]
    relations: Mapping[str, Relation] | None
    ridge: Penalties | None
    smooth: Mapping[str, Strength] | None
    real_coefficients: bool
    sigma: np.ndarray | float | Mapping[str, Any] | None
    weights: np.ndarray | Mapping[str, Any] | None
    absolute_sigma: bool
    noise: Noise
    loss_scale: float
    mask: np.ndarray | Mapping[str, Any] | None
    nan: NanPolicy
    share: str | Sequence[str] | None
    solver: Solver | None
    linear_solver: AbstractPinvSolver | None
    jacobian: Jacobian | None
    compress: bool | None
    max_steps: int | None
    starts: int
    seed: int
    throw: bool


@overload
def fit(model: ModelLike, x: PyTree, y: np.ndarray, **options: Unpack[_Options]) -> FitResult: ...


@overload
def fit(
    model: ModelLike, x: PyTree, y: Compressed | DataBlocks, **options: Unpack[_Options]
) -> CompressedFit: ...


@overload
def fit(
    model: ModelLike | Mapping[str, ModelLike],
    x: Mapping[str, tuple[PyTree, np.ndarray]],
    y: None = None,
    **options: Unpack[_Options],
) -> GlobalFit: ...


def fit(
    model: ModelLike | Mapping[str, ModelLike],
    x: PyTree,
    y: np.ndarray | Compressed | DataBlocks | None = None,
    *,
    init: Mapping[str, Param | float] | None = None,
    bounds: Mapping[str, tuple] | None = None,
    fix: str | Sequence[str] = (),
    tie: Mapping[str, TieLike] | None = None,
    order: Sequence[str] | Sequence[Sequence[str]] = (),
    nonnegative: bool | str | Sequence[str] = False,
    relations: Mapping[str, Relation] | None = None,
    ridge: Penalties | None = None,
    smooth: Mapping[str, Strength] | None = None,
    real_coefficients: bool = False,
    sigma: np.ndarray | float | Mapping[str, Any] | None = None,
    weights: np.ndarray | Mapping[str, Any] | None = None,
    absolute_sigma: bool = False,
    noise: Noise = "normal",
    loss_scale: float = 1.0,
    mask: np.ndarray | Mapping[str, Any] | None = None,
    nan: NanPolicy = "raise",
    share: str | Sequence[str] | None = None,
    solver: Solver | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    jacobian: Jacobian | None = None,
    compress: bool | None = None,
    max_steps: int | None = None,
    starts: int = 1,
    seed: int = 0,
    throw: bool = False,
) -> FitResult | GlobalFit | BatchFit | CompressedFit:
    """Fit `y ~ Phi(alpha) c` for the nonlinear parameters alpha and the coefficients c.

    Only nonlinear parameters have a start, and where that of a decay or a peak is left out it is
    found in the data (`varpro._starts.guess`); `fit["slow.tau"].init` tells which. The computation runs in
    float64 for float64 or integer data whatever JAX's global setting is, and in float32 for float32
    data.

    **Arguments:**

    - `model`: a sum of bases such as `vp.Exp("fast", tau=0.5) + vp.Constant("background")`, or any
        function `f(theta, x)` of a dict of scalars that returns columns (see `vp.Custom`). For
        several data sets also a dict with a model for each.
    - `x`: sample positions (m,); for your own functions any pytree of arrays with m rows. Or several
        data sets `{"run1": (x1, y1), "run2": (x2, y2)}`, each with its own coefficients, without `y`.
    - `y`: data (m,), or (m, k) for k right-hand sides. Real or complex. What is not in memory is
        read twice, block by block: a `numpy.memmap`, an array of zarr, h5py or dask, or a function
        that returns an iterator over blocks of right-hand sides (m, k_i). Or what `varpro.compress`
        made of them.
    - `init`: starts by name, plain numbers or `vp.Param`; overrides what the model says. For a bare
        function it defines the parameters.
    - `bounds`: `{name: (lower, upper)}` of nonlinear parameters, overrides what the model says; and of
        coefficients, by the name of their column, with numbers or arrays (k,), one for each
        right-hand side. Equal ends hold a coefficient.
    - `fix`: names of parameters to hold at their start. Here, in `init` and in `bounds` a pattern
        such as "*.tau" stands for all names that it matches.
    - `tie`: `{name: other}`, the first takes the value of the second; or of `"2 * other + 3.1"`, of
        `(other, scale, shift)`, or of a `vp.Tie`: scaled and shifted.
    - `order`: a chain of names that must increase, such as ("fast.tau", "slow.tau"), or several.
    - `nonnegative`: True for all coefficients, or names and patterns of columns.
    - `relations`: `{"b": {"a": 0.5}}`, coefficient b is half of a; `{"b": {"a": 1.0, "c": 1.0}}` is the
        sum of others, `{"b": "a"}` the same, `{"b": 0.0}` that number.
    - `ridge`: adds `ridge` times the squares of all coefficients to chi-square; `{pattern: number}`
        those of some columns; "gcv" finds the strength by generalised cross-validation.
    - `smooth`: `{pattern: number or "gcv"}`, the same for squares of second differences between
        neighbouring columns: for columns that sample a curve, such as a distribution of lifetimes.
    - `real_coefficients`: of complex data the coefficients are real, which is for models that have
        their phases as parameters (`vp.Receiver`). They may then be nonnegative or bounded.
    - `sigma`: standard deviation of each sample (m,), of each value (m, k), or one number; or
    - `weights`: (m,) or (m, k), multiplies the residual. Zero leaves a sample out.
    - `absolute_sigma`: take sigma as it is (True) or up to a common factor (False, default), which
        scales all standard errors by the root of the reduced chi-square. As in scipy.
    - `noise`: "normal" (default) for least squares; "poisson" for counts: the maximum of the Poisson
        likelihood, with sigma known; "huber", "soft_l1" or "cauchy" for outliers, which a complex
        residual is by its distance. By least squares whose weights follow the model; `fit.weights`
        are the last ones. One column y (m,).
    - `loss_scale`: the residual, in units of sigma, from which on those losses see an outlier.
    - `mask`: boolean (m,) or (m, k), True for what to use. Of several data sets `sigma`, `weights` and
        `mask` are dicts of arrays, or one number for all.
    - `nan`: "raise" (default) or "drop" values that are not finite.
    - `share`: "all" (default): one set of nonlinear parameters for all columns of Y and all data
        sets. "none": every column, or every data set, has its own. Or names and patterns such as
        `["irf.*"]` of what they share. One data set then gives a `BatchFit` over its columns (see
        `varpro.fit_many`). Of several, the other parameters are named after their data set,
        "run1.irf.center"; elsewhere a name without that, "irf.center", means that of every data set.
    - `solver`: `vp.LevenbergMarquardt()` by default; any optimistix solver.
    - `linear_solver`: `vp.linalg.SVD()` by default, which every rank suits.
    - `jacobian`: "auto" (default), "full" or "kaufman", as in `varpro.solve`.
    - `compress`: search with compressed right-hand sides (`varpro.compress`): True, False, or None
        (default) where that pays, which is for several starts with many more right-hand sides than
        samples. The outcome is the same to rounding. Not where right-hand sides differ in weights,
        or have bounds on their coefficients.
    - `max_steps`: trial points at most; 256 by default.
    - `starts`: how many starts to try, the given one and scrambled Sobol points of the box that the
        bounds make (see `varpro._search.multistart`); the fit of least cost is returned.
    - `seed`: of those points; the same seed gives the same fit.
    - `throw`: raise `FitError` when the fit does not converge; otherwise see `.success`.

    **Returns:** a `FitResult`; of several data sets a `GlobalFit`, with one for each; of data that
    are not in memory a `CompressedFit`; of columns with parameters of their own a `BatchFit`.

    **Raises:** `InputError` for anything given that cannot be right, before any computation;
    `FitError` as said under `throw`.
    """
    constraints = Constraints(
        init,
        bounds,
        fix,
        tie,
        order,
        CoefficientSpec(nonnegative, {}, relations or {}, ridge, smooth, real_coefficients),
    )
    weighting = Weighting(sigma, weights, mask, absolute_sigma, nan, noise_model(noise, loss_scale))
    multistart = Multistart(
        search(solver, linear_solver, jacobian, max_steps), starts, seed, compress
    )
    options = constraints, weighting, multistart
    if y is None:
        if compress:
            raise InputError("compress= is for one data set.", argument="compress")
        if not isinstance(x, Mapping):
            raise InputError("y is missing. Several data sets are given as {'name': (x, y), ...}.")
        if weighting.noise.follows_model:
            raise InputError(
                "noise= is for one data set. Weigh several with sigma=.", argument="noise"
            )
        result = fit_sets(model, x, "all" if share is None else share, *options)
    elif isinstance(model, Mapping):
        raise InputError("One data set has one model, not several.")
    elif share not in (None, "all"):
        return _each(model, x, y, share, *options)
    elif isinstance(y, Compressed) or is_stream(y):
        if compress is False:
            raise InputError("Data that are not in memory are compressed. Leave compress= out.")
        result = _in_blocks(model, x, y, *options)
    else:
        result = fit_one(model, x, y, *options)  # pyright: ignore[reportArgumentType]
    if throw and not result.success:
        raise FitError(f"The fit did not converge: {result.message}", result)
    return result


def _in_blocks(
    model: ModelLike,
    x: PyTree,
    y: Compressed | DataBlocks,
    constraints: Constraints,
    weighting: Weighting,
    multistart: Multistart,
) -> CompressedFit:
    """All right-hand sides with one set of nonlinear parameters, in two readings."""
    for what, value in weighting.arrays.items():
        if np.ndim(value) > 1:
            raise InputError(
                f"{what} has shape {np.shape(value)}, but right-hand sides cannot be compressed where "
                f"their weights or masks differ. Give one of shape (m,), or y in memory.",
                argument="compress",
            )
    if weighting.nan != "raise":
        raise InputError("Data that are read in blocks have no nan=. Leave samples out with mask=.")
    if isinstance(y, Compressed):
        fit = fit_one(model, x, y, constraints, weighting, multistart)
        return CompressedFit(fit, y.count)
    mask = weighting.mask
    if weighting.weights is not None and np.ndim(weighting.weights) == 1:
        used = np.asarray(weighting.weights) > 0
        mask = used if mask is None else used & mask
    compressed = _compress(y, mask=mask)
    return _in_blocks(model, x, compressed, constraints, weighting, multistart).completed(y)


def _each(
    model: ModelLike,
    x: PyTree,
    y: Any,
    share: str | Sequence[str],
    constraints: Constraints,
    weighting: Weighting,
    multistart: Multistart,
) -> BatchFit:
    """Every column of Y with parameters of its own."""
    local = multistart.local
    if not isinstance(local.solver, LevenbergMarquardt) or multistart.starts != 1:
        raise InputError(
            "columns with parameters of their own have a search of their own: leave solver= and starts= out."
        )
    common = () if share == "none" else share
    y = np.asarray(y)
    if weighting.nan != "raise" or y.ndim != 2:
        raise InputError(
            f"share={common or 'none'!r} fits the columns of Y (m, k). A column that is not "
            "finite gets a status of its own, so leave nan= out.",
            argument="share",
        )
    if constraints.coefficients.any:
        raise InputError(
            "Columns with parameters of their own have no rules for coefficients: leave nonnegative=, "
            "relations=, ridge= and smooth= out.",
            argument="nonnegative",
        )
    search = BatchSearch(max_steps=local.max_steps)
    return fit_curves(make_cube(x, y.T, None), model, common, constraints, weighting, search)
