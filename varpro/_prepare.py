"""`prepare`: a fit that lacks its data."""

import contextlib
import copy
import dataclasses
from typing import Any, TypedDict, Unpack

import jax
import numpy as np
from jaxtyping import PyTree

from ._errors import FitError, InputError
from ._fit import SearchOptions, made_of
from ._problem.data import prepare_data
from ._problem.model_like import ModelLike, takes_vectors
from ._problem.noise import AbstractNoise
from ._problem.options import Constraints, NanPolicy, Weighting
from ._programs.compiler import fully_optimised
from ._results.fit_result import FitResult
from ._search.multistart import Multistart
from ._single.fit_single import fit_one
from ._starts.declare import declare
from ._types import precision


class _Weighting(TypedDict):
    absolute_sigma: bool
    nan: NanPolicy
    noise: AbstractNoise


@dataclasses.dataclass(frozen=True)
class PreparedFit:
    """A model and options for data at one x, made by `varpro.prepare`.

    **Fields:** `model` and `x` as they were given, and `optimise`, whether programs are optimised however
    small the work.
    """

    model: ModelLike
    x: PyTree
    optimise: bool
    _constraints: Constraints = dataclasses.field(repr=False)
    _search: Multistart = dataclasses.field(repr=False)
    _weighting: _Weighting = dataclasses.field(repr=False)
    _throw: bool = dataclasses.field(repr=False)

    def fit(
        self,
        y: np.ndarray,
        *,
        sigma: np.ndarray | float | None = None,
        weights: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> FitResult:
        """The fit of data y (m,), or (m, k) for k right-hand sides, at the x that was prepared.

        **Arguments:** as of `varpro.fit`.

        **Returns:** what `varpro.fit` returns for the same model, x and options; the first call for a
        number of right-hand sides compiles.

        **Raises:** `InputError` for data that cannot be right, and `FitError` where `throw` was asked for.
        """
        weighting = Weighting(sigma, weights, mask, **self._weighting)
        with fully_optimised() if self.optimise else contextlib.nullcontext():
            result = fit_one(self.model, self.x, y, self._constraints, weighting, self._search)
        if self._throw and not result.success:
            raise FitError(f"The fit did not converge: {result.message}", result)
        return result


def prepare(
    model: ModelLike,
    x: PyTree,
    *,
    optimise: bool = True,
    absolute_sigma: bool = False,
    nan: NanPolicy = "raise",
    throw: bool = False,
    **options: Unpack[SearchOptions],
) -> PreparedFit:
    """Prepare the fit of a model at one x, for many data y that come one after the other.

        prepared = vp.prepare(model, t, bounds={"fast.tau": (0.1, 3.0)})
        for y in curves:
            print(prepared.fit(y)["fast.tau"])

    Curves that are all at hand are fitted faster together, by `varpro.fit_many`.

    **Arguments:**

    - `model`, `x`: as of `varpro.fit`, for one data set.
    - `optimise`: compile with all of LLVM's optimisation, which takes one to two seconds more at the first
        fit and makes every other one up to twice as fast. False does what `varpro.fit` does.
    - further options, `init`, `bounds`, `noise` and so on, as of `varpro.fit`; what belongs to single data,
        `sigma`, `weights` and `mask`, is given to `PreparedFit.fit`.

    **Returns:** a `PreparedFit`.

    **Raises:** `InputError` for a model, x or options that cannot be right.
    """
    # A copy: what a caller changes later is not what was prepared.
    x = copy.deepcopy(x)
    sizes = {len(leaf) for leaf in jax.tree.leaves(x, is_leaf=_has_length) if _has_length(leaf)}
    if len(sizes) != 1 or 0 in sizes:
        raise InputError(
            f"x must be arrays of one length, one entry for each sample; its lengths are "
            f"{sorted(sizes)}.",
            argument="x",
        )
    constraints, noise, search = made_of(**options)
    flat = takes_vectors(model)
    data = prepare_data(x, np.zeros(sizes.pop()), Weighting(nan=nan), flat=flat)
    with precision(data.real):
        declare(model, data, constraints.init)
    weighting = _Weighting(absolute_sigma=absolute_sigma, nan=nan, noise=noise)
    return PreparedFit(model, x, optimise, constraints, search, weighting, throw)


def _has_length(leaf: Any) -> bool:
    """Whether this is an array of positions, and not a dict or tuple of several."""
    if isinstance(leaf, list):
        return not any(map(_has_length, leaf))
    return bool(getattr(leaf, "shape", ()))
