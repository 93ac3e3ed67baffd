"""`fit`: the door for one data set and for several."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, Unpack, overload

import numpy as np
from jaxtyping import PyTree
from lineax import AbstractLinearSolver
from numpy.typing import ArrayLike

from ._errors import FitError, InputError, suggestion
from ._given.arguments import axes_in, flag, mapping, names, shown
from ._given.containers import Axis, is_labelled, numbers_of, truth_of
from ._parameters.param import Param
from ._parameters.tie import TieLike
from ._problem.compress import Compressed, DataBlocks, compress as _compress, is_stream
from ._problem.data import columns_apart, in_blocks
from ._problem.equal_area import EqualArea
from ._problem.frozen import Recalled, recall
from ._problem.l1 import L1
from ._problem.linear_constraints import CoefficientSpec, Penalties, Relation, Strength
from ._problem.model_like import ModelLike, takes_vectors
from ._problem.noise import AbstractNoise, Noise, noise_model
from ._problem.noise_covariance import Covariance
from ._problem.operator_model import check_returned, returns_operator
from ._problem.options import Constraints, NanPolicy, Weighting
from ._problem.tikhonov import Tikhonov
from ._reduced.abstract import Jacobian
from ._results.fit_result import FitResult
from ._search.levenberg_marquardt import LevenbergMarquardt
from ._search.minimise import Solver, search
from ._search.multistart import Multistart
from ._search.progress import Told, telling
from ._single.fit_single import fit_one
from ._statistics.derivation import Derivation, check_derivation
from .linalg import AbstractIterative, AbstractPinvSolver, as_iterative

# The other kinds of fit are imported when they are asked for: a tenth of a second that one curve need
# not wait.
if TYPE_CHECKING:
    from ._batch.batch_fit import BatchFit
    from ._global.global_fit import GlobalFit
    from ._operator.operator_fit import OperatorFit
    from ._results.compressed_fit import CompressedFit


class SearchOptions(TypedDict, total=False):
    """The options of `fit` that hold for any data."""

    init: Mapping[str, Param | float] | None
    bounds: Mapping[str, tuple] | None
    fix: str | Sequence[str]
    tie: Mapping[str, TieLike] | None
    order: Sequence[str] | Sequence[Sequence[str]]
    inequalities: str | Sequence[str]
    nonnegative: bool | str | Sequence[str]
    relations: Mapping[str, Relation] | None
    ridge: Penalties | None
    smooth: Mapping[str, Strength] | None
    equal_areas: EqualArea | Sequence[EqualArea]
    real_coefficients: bool
    noise: Noise
    loss_scale: float
    solver: Solver | None
    linear_solver: AbstractPinvSolver | AbstractIterative | AbstractLinearSolver | None
    jacobian: Jacobian | None
    compress: bool | None
    max_steps: int | None
    starts: int
    seed: int


class _Labelled(Protocol):
    """Labelled data, which hold their positions."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray: ...


class _Options(SearchOptions, total=False):
    sigma: ArrayLike | Covariance | Mapping[str, Any] | None
    weights: ArrayLike | Mapping[str, Any] | None
    absolute_sigma: bool
    mask: ArrayLike | Mapping[str, Any] | None
    nan: NanPolicy
    share: str | Sequence[str] | None
    link: str | Sequence[str]
    scale: Mapping[str, Any] | None
    derived: Derivation | None
    progress: Told | bool | None
    throw: bool
    dim: str | None


@overload
def fit(
    model: ModelLike, x: PyTree, y: PyTree, *, penalty: Tikhonov | L1, **options: Unpack[_Options]
) -> "OperatorFit": ...


@overload
def fit(model: ModelLike, x: PyTree, y: ArrayLike, **options: Unpack[_Options]) -> FitResult: ...


@overload
def fit(model: ModelLike, x: _Labelled, **options: Unpack[_Options]) -> FitResult: ...


@overload
def fit(
    model: ModelLike, x: PyTree, y: Compressed | DataBlocks, **options: Unpack[_Options]
) -> "CompressedFit": ...


@overload
def fit(
    model: ModelLike | Mapping[str, ModelLike],
    x: Mapping[str, tuple[PyTree, ArrayLike]],
    y: None = None,
    **options: Unpack[_Options],
) -> "GlobalFit": ...


def fit(
    model: ModelLike | Mapping[str, ModelLike],
    x: PyTree,
    y: PyTree | Compressed | DataBlocks | None = None,
    *,
    dim: str | None = None,
    init: Mapping[str, Param | float] | None = None,
    bounds: Mapping[str, tuple] | None = None,
    fix: str | Sequence[str] = (),
    tie: Mapping[str, TieLike] | None = None,
    order: Sequence[str] | Sequence[Sequence[str]] = (),
    inequalities: str | Sequence[str] = (),
    nonnegative: bool | str | Sequence[str] = False,
    relations: Mapping[str, Relation] | None = None,
    ridge: Penalties | None = None,
    smooth: Mapping[str, Strength] | None = None,
    equal_areas: EqualArea | Sequence[EqualArea] = (),
    real_coefficients: bool = False,
    penalty: Tikhonov | L1 | None = None,
    sigma: ArrayLike | Covariance | Mapping[str, Any] | None = None,
    weights: ArrayLike | Mapping[str, Any] | None = None,
    absolute_sigma: bool = False,
    noise: Noise = "normal",
    loss_scale: float = 1.0,
    mask: ArrayLike | Mapping[str, Any] | None = None,
    nan: NanPolicy = "raise",
    share: str | Sequence[str] | None = None,
    link: str | Sequence[str] = (),
    scale: Mapping[str, Any] | None = None,
    solver: Solver | None = None,
    linear_solver: AbstractPinvSolver | AbstractIterative | AbstractLinearSolver | None = None,
    jacobian: Jacobian | None = None,
    compress: bool | None = None,
    max_steps: int | None = None,
    starts: int = 1,
    seed: int = 0,
    derived: Derivation | None = None,
    progress: Told | bool | None = None,
    throw: bool = False,
) -> "FitResult | GlobalFit | BatchFit | CompressedFit | OperatorFit":
    """Fit `y ~ Phi(alpha) c` for the nonlinear parameters alpha and the coefficients c.

    Only nonlinear parameters have a start, and where that of a decay or a peak is left out it is
    found in the data (`varpro._starts.guess`); `fit["slow.tau"].init` tells which. The computation runs in
    float64 for float64 or integer data whatever JAX's global setting is, and in float32 for float32
    data.

    **Arguments:**

    - `model`: a sum of bases such as `vp.Exp("fast", tau=0.5) + vp.Constant("background")`, or any
        function `f(theta, x)` of a dict of scalars that returns columns (see `vp.Custom`), or, where their
        coefficients are too many, an operator (see `vp.OperatorFit`). For
        several data sets also a dict with a model for each.
    - `x`: sample positions (m,), or (m, k) of columns with parameters of their own (`share`); for
        your own functions any pytree of arrays with m rows. Or several
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
        `(other, scale, shift)`, or of a `vp.Tie`: scaled and shifted; or of an expression of several, such as
        `"2 * b.center - a.center"` or `"sqrt(a.width * b.width)"` (`vp.Expression`).
    - `order`: a chain of names that must increase, such as ("fast.tau", "slow.tau"), or several.
    - `inequalities`: what parameters must keep, linear in them: "a.tau + b.tau <= 10", or several such as
        "1 <= b.center - a.center <= 5"; `<` means `<=`. Where one holds as an equality the fit says so, and
        the standard error of one parameter in it is withheld, as on a bound.
    - `nonnegative`: True for all coefficients, or names and patterns of columns.
    - `relations`: `{"b": {"a": 0.5}}`, coefficient b is half of a; `{"b": {"a": 1.0, "c": 1.0}}` is the
        sum of others, `{"b": "a"}` the same, `{"b": 0.0}` that number; `{"b": vp.Within((600, 700), 0.0)}` one
        of these for right-hand sides of some wavelengths alone.
    - `ridge`: adds `ridge` times the squares of all coefficients to chi-square; `{pattern: number}`
        those of some columns; "gcv" finds the strength by generalised cross-validation.
    - `smooth`: `{pattern: number or "gcv"}`, the same for squares of second differences between
        neighbouring columns: for columns that sample a curve, such as a distribution of lifetimes.
    - `equal_areas`: `vp.EqualArea("a", "b", weight=10.0)`, or several: penalties that draw sums of coefficients
        over right-hand sides together.
    - `real_coefficients`: of complex data the coefficients are real, which is for models that have
        their phases as parameters (`vp.Receiver`). They may then be nonnegative or bounded.
    - `penalty`: `vp.Tikhonov(...)` or `vp.L1(...)` on the coefficients of a model that returns an operator;
        `ridge`, one number or "gcv", is the first of these, too.
    - `sigma`: standard deviation of each sample (m,), of each value (m, k), or one number; or the
        covariance of correlated samples (m, m), symmetric and positive definite, which all right-hand sides
        have: an array, a matrix of scipy.sparse, or a `scipy.stats.Covariance` (made of a Cholesky factor or a
        precision matrix). What is left out is left out of it, too. For least squares. Or
    - `weights`: (m,) or (m, k), multiplies the residual. Zero leaves a sample out.
    - `absolute_sigma`: take sigma as it is (True) or up to a common factor (False, default), which
        scales all standard errors by the root of the reduced chi-square. As in scipy.
    - `noise`: "normal" (default) for least squares; "poisson" for counts: the maximum of the Poisson
        likelihood, with sigma known; "huber", "soft_l1" or "cauchy" for outliers, which a complex
        residual is by its distance. The cost itself is minimised, of several right-hand sides and data
        sets that of all; `fit.weights` are those of least squares that end at the same place.
    - `loss_scale`: the residual, in units of sigma, from which on those losses see an outlier.
    - `mask`: boolean (m,) or (m, k), True for what to use. Of several data sets `sigma`, `weights` and
        `mask` are dicts of arrays, or one number for all.
    - `nan`: "raise" (default) or "drop" values that are not finite.
    - `share`: "all" (default): one set of nonlinear parameters for all columns of Y and all data
        sets. "none": every column, or every data set, has its own. Or names and patterns such as
        `["irf.*"]` of what they share. One data set then gives a `BatchFit` over its columns (see
        `varpro.fit_many`). Of several, the other parameters are named after their data set,
        "run1.irf.center"; elsewhere a name without that, "irf.center", means that of every data set.
    - `link`: of several data sets, "all" for coefficients that are the same in all of them, or names and
        patterns of such, as spectra of one sample measured twice; right-hand sides are one by their labels,
        or by their order. None by default.
    - `scale`: with `link`, by which factor the coefficients of a data set differ from those of the others:
        `{"second": 1.1}`, a start, or a `vp.Param`, of the parameter "second.scale"; or of single coefficients,
        `{"second": {"a": 1.1}}` of "second.scale.a". In every coefficient one data set must have none.
    - `solver`: `vp.LevenbergMarquardt()` by default; any optimistix solver.
    - `linear_solver`: `vp.linalg.SVD()` by default, which every rank suits; of an operator
        `vp.linalg.ConjugateGradients()`.
    - `jacobian`: "auto" (default), "full" or "kaufman", as in `varpro.solve`.
    - `compress`: search with compressed right-hand sides (`varpro.compress`): True, False, or None
        (default) where that pays, which is for several starts with many more right-hand sides than
        samples. The outcome is the same to rounding. Not where right-hand sides differ in weights,
        or have bounds on their coefficients.
    - `max_steps`: trial points at most; 256 by default.
    - `starts`: how many starts to try, the given one and scrambled Sobol points of the box that the
        bounds make (see `varpro._search.multistart`); the fit of least cost is returned.
    - `seed`: of those points; the same seed gives the same fit.
    - `derived`: numbers that follow from the fit, as `fit.derive` takes them, such as
        `{"ratio": "a.area / b.area"}`. They stand in the report, in tables and in files, and `fit["ratio"]`
        is one of them.
    - `progress`: a function that is told of each step of the search by a `vp.Progress`: step,
        chi-square, gradient and parameters. True prints a line for each, to stderr. It is called in a thread of
        its own, in order, and the search does not wait for it. What it raises ends the search at its next step and
        is raised here, which is the way to stop a fit. For one model of all columns, and the solver of varpro.
    - `throw`: raise `FitError` when the fit does not converge; otherwise see `.success`.

    **Returns:** a `FitResult`; of a model that returns an operator an `OperatorFit`; of several data sets a `GlobalFit`, with one for each; of data that
    are not in memory a `CompressedFit`; of columns with parameters of their own a `BatchFit`.

    **Raises:** `InputError` for anything given that cannot be right, before any computation;
    `FitError` as said under `throw`.
    """
    flag("throw", throw)
    _check_link(link, scale, y is None and not is_labelled(x))
    if share is not None and not isinstance(share, str):
        share = names("share", share)
    inner = as_iterative(linear_solver)
    factored: Any = None if inner is not None else linear_solver
    constraints, noise_of_data, multistart = recall(
        _OPTIONS,
        _options,
        *(init, bounds, fix, tie, order, inequalities, nonnegative, relations, ridge, smooth),
        *(equal_areas, real_coefficients, noise, loss_scale, solver, factored, jacobian, compress),
        *(max_steps, starts, seed),
    )
    weighting = Weighting(sigma, weights, mask, absolute_sigma, nan, noise_of_data)
    options = constraints, weighting, multistart
    if derived is not None and not isinstance(model, Mapping):
        check_derivation(derived, model, constraints.init, several=y is None and not is_labelled(x))
    if y is None and is_labelled(x):
        x, y = None, x
    many = y is not None and share not in (None, "all") and not isinstance(model, Mapping)
    given = _Given(share, link, scale, penalty, inner, factored, solver is not None, compress)
    with telling(progress) as watch:
        if watch is not None:
            _check_told(multistart, many)
            local = dataclasses.replace(multistart.local, watch=watch)
            options = constraints, weighting, dataclasses.replace(multistart, local=local)
        result = _fitted(model, x, y, given, options, dim, derived)
    if throw and not many and not result.success:
        raise FitError(f"The fit did not converge: {result.message}", result)
    return result


class _Given(NamedTuple):
    """Options that decide which kind of fit is asked for; `solver`: whether one was given."""

    share: str | Sequence[str] | None
    link: str | Sequence[str]
    scale: Mapping[str, Any] | None
    penalty: Tikhonov | L1 | None
    inner: AbstractIterative | None
    factored: AbstractPinvSolver | None
    solver: bool
    compress: bool | None


def _check_told(multistart: Multistart, many: bool) -> None:
    """Refuse `progress` where nothing would be told."""
    if many:
        why = "curves with parameters of their own are searched many at a time"
    elif not isinstance(multistart.local.solver, LevenbergMarquardt):
        why = f"{type(multistart.local.solver).__name__} tells nothing of its steps"
    else:
        return
    raise InputError(f"progress= does not go here: {why}. Leave it out.", argument="progress")


def _fitted(
    model: Any,
    x: Any,
    y: Any,
    given: _Given,
    options: tuple[Constraints, Weighting, Multistart],
    dim: str | None,
    derived: Derivation | None,
) -> Any:
    """The fit of the kind that is asked for."""
    share, link, scale, penalty, inner, factored, _, compress = given
    constraints, *_ = options
    one = None if y is None or isinstance(model, Mapping) else model
    if one is not None and returns_operator(one, x, constraints.init):
        from ._operator.fit_operator import fit_operator

        told = ("progress", options[-1].local.watch is not None or None)
        for what, value in (("share", share), ("derived", derived), ("dim", dim), told):
            if value not in (None, "all"):
                raise InputError(
                    f"{what}= is for a model of columns; this one returns an operator.",
                    argument=what,
                )
        if factored is not None:
            raise InputError(
                "The model returns an operator, which is not factored. Leave linear_solver= out, or give "
                "vp.linalg.ConjugateGradients(), lineax.CG(...) or lineax.LSMR(...).",
                argument="linear_solver",
            )
        how = penalty, inner, given.solver
        return fit_operator(one, x, y, *options, *how)
    for what, value in (("penalty", penalty), ("linear_solver", inner)):
        if value is not None:
            if one is not None:
                check_returned(one, x, constraints.init)
            raise InputError(
                f"{what}={shown(value)} is for a model that returns an operator. "
                + ("Give ridge= or smooth=." if what == "penalty" else "Give vp.linalg.SVD()."),
                argument=what,
            )
    if y is None:
        if compress:
            raise InputError("compress= is for one data set.", argument="compress")
        if not isinstance(x, Mapping):
            raise InputError("y is missing. Several data sets are given as {'name': (x, y), ...}.")
        shared = "all" if share is None else share
        if link:
            from ._linked.fit_linked import fit_linked

            result = fit_linked(model, x, shared, link, scale, *options, dim)
        else:
            from ._global.fit_global import fit_sets

            result = fit_sets(model, x, shared, *options, dim)
    elif isinstance(model, Mapping):
        raise InputError("One data set has one model, not several.")
    elif share not in (None, "all"):
        many = _each(model, x, y, share, *options, dim)
        return many if derived is None else many.with_derived(derived)
    elif isinstance(y, Compressed) or is_stream(y):
        if compress is False:
            raise InputError("Data that are not in memory are compressed. Leave compress= out.")
        if derived is not None:
            raise InputError("derived= is for data in memory.", argument="derived")
        x, y, called = in_blocks(x, y, dim)
        result = _in_blocks(model, x, y, *options)
        core = dataclasses.replace(result.core, data_names=called)
        result = dataclasses.replace(result, core=core)
    else:
        result = fit_one(model, x, y, *options, dim)
    if derived is not None:
        result = dataclasses.replace(result, derived=result.derive(derived))  # pyright: ignore
    return result


def _check_link(link: Any, scale: Any, several: bool) -> None:
    """Refuse options of linked coefficients that cannot be right."""
    names("link", link)
    mapping("scale", scale, '{"second": 1.1}')
    if link and not several:
        raise InputError("link= is for several data sets, {'name': (x, y), ...}.", argument="link")
    if scale and not link:
        raise InputError(
            "scale= is for coefficients that data sets have in common. Say which: link='all', or names.",
            argument="scale",
        )


_OPTIONS = Recalled(32)


def made_of(**options: Unpack[SearchOptions]) -> tuple[Constraints, AbstractNoise, Multistart]:
    """Options by name as one object per subject."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(fit).parameters.items()
        if name in SearchOptions.__annotations__
    }
    for name in options:
        if name not in defaults:
            raise InputError(
                f"There is no option '{name}'. {suggestion(name, defaults)}", argument=name
            )
    given = defaults | options
    return recall(
        _OPTIONS, _options, *(given[name] for name in inspect.signature(_options).parameters)
    )


def _options(
    init: Any,
    bounds: Any,
    fix: Any,
    tie: Any,
    order: Any,
    inequalities: Any,
    nonnegative: Any,
    relations: Any,
    ridge: Any,
    smooth: Any,
    equal_areas: Any,
    real_coefficients: bool,
    noise: Any,
    loss_scale: float,
    solver: Any,
    linear_solver: Any,
    jacobian: Any,
    compress: Any,
    max_steps: int | None,
    starts: int,
    seed: int,
) -> tuple[Constraints, AbstractNoise, Multistart]:
    """What holds for any data, one object per subject."""
    coefficients = CoefficientSpec(
        *(nonnegative, {}, {} if relations is None else relations, ridge, smooth),
        *(real_coefficients, equal_areas),
    )
    constraints = Constraints(init, bounds, fix, tie, order, coefficients, inequalities)
    how = search(solver, linear_solver, jacobian, max_steps)
    return constraints, noise_model(noise, loss_scale), Multistart(how, starts, seed, compress)


def _in_blocks(
    model: ModelLike,
    x: PyTree,
    y: Any,
    constraints: Constraints,
    weighting: Weighting,
    multistart: Multistart,
) -> "CompressedFit":
    """All right-hand sides with one set of nonlinear parameters, in two readings."""
    from ._results.compressed_fit import CompressedFit

    for what, value in weighting.arrays.items():
        if axes_in(value) > 1:
            raise InputError(
                f"{what} has shape {np.shape(value)}, but right-hand sides cannot be compressed where "
                f"their weights or masks differ. Give one of shape (m,), or y in memory.",
                argument="compress",
            )
    if weighting.mask is not None:
        weighting = dataclasses.replace(weighting, mask=truth_of("mask", weighting.mask).values)
    if weighting.nan != "raise":
        raise InputError("Data that are read in blocks have no nan=. Leave samples out with mask=.")
    if isinstance(y, Compressed):
        fit = fit_one(model, x, y, constraints, weighting, multistart)
        return CompressedFit(fit, y.count)
    mask = weighting.mask
    weights = weighting.weights
    if weights is not None and axes_in(weights) == 1:
        used = numbers_of("weights", weights).values > 0
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
    dim: str | None,
) -> "BatchFit":
    """Every column of Y with parameters of its own."""
    from ._batch.fit_many import fit_curves
    from ._batch.labelled import make_cube
    from ._batch.prepare import BatchSearch

    local = multistart.local
    if not isinstance(local.solver, LevenbergMarquardt):
        raise InputError(
            "columns with parameters of their own have a search of their own: leave solver= out."
        )
    common = () if share == "none" else share
    if isinstance(y, Compressed) or callable(y) or hasattr(y, "__next__"):
        raise InputError(
            f"share={common or 'none'!r} fits the columns of Y (m, k), each with parameters of its own: "
            "give y in memory.",
            argument="share",
        )
    x, y, weighting, axis, called = columns_apart(x, y, weighting, dim)
    if takes_vectors(model) and np.shape(y)[0] > 1 and axes_in(x) == 2:
        if np.shape(x) == np.shape(y)[::-1]:
            x = numbers_of("x", x).values.T  # each column has positions of its own
    cube = make_cube(x, y, None)
    if axis.labels is not None and not axis.counted:
        name = axis.name or "rhs"
        cube = dataclasses.replace(
            cube,
            dims=(name,),
            coords={name: ((name,), axis.labels, *([{"units": axis.unit}] if axis.unit else []))},
            axes=(axis, Axis()),
            names=called,
        )
    search = BatchSearch(max_steps=local.max_steps, starts=multistart.starts, seed=multistart.seed)
    return fit_curves(cube, model, common, constraints, weighting, search)
