"""What a batch is given, checked: the model, weights, starts and bounds."""

import dataclasses
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import numpy as np

from .._errors import InputError
from .._parameters.layout import expand
from .._problem.checks import check_distinct
from .._problem.columns import Assembled
from .._problem.data import prepare_data
from .._problem.model_like import ModelLike
from .._problem.options import Constraints, Weighting
from .._search.batched_levenberg import Limits
from .._starts.declare import declare, set_up
from .._starts.guess import guess_starts
from .._types import precision
from ..basis import without_names
from .curves import Rows, Weighing
from .job import WARY, BatchJob
from .labelled import Cube, is_array
from .per_curve import (
    bounding_boxes,
    bounds_by_curve,
    box_of,
    held_by_curve,
    refuse_what_has_no_own,
    starts_by_curve,
    starts_of_curves,
)

Start = Literal["mean", "global", "binned", "neighbours"]
# Complex curves in which starts are found.
_SIDES = 256


class BatchSearch(eqx.Module):
    """How to look for the optima of many curves; described in `varpro.fit_many`."""

    start: Start = "mean"
    binning: int = 8
    ftol: float | None = None
    max_steps: int = 100
    block: int | None = None

    def __check_init__(self):
        if self.start not in get_args(Start):
            raise InputError(f"start must be one of {get_args(Start)}, not {self.start!r}.")
        if self.binning < 1:
            raise InputError(f"binning must be 1 or more, not {self.binning}.")


def prepare(
    cube: Cube,
    model: ModelLike,
    constraints: Constraints,
    weighting: Weighting,
    search: BatchSearch,
) -> BatchJob:
    """Everything that does not depend on which curves are fitted, checked."""
    rows, noise = cube.rows, weighting.noise
    given = np.dtype(rows.data.dtype)
    real = np.dtype(np.float32 if given in (np.float32, np.complex64) else np.float64)
    dtype = np.result_type(real, np.complex64) if given.kind == "c" else real
    if sentence := noise.refusal(np.zeros(0, dtype)):
        raise InputError(sentence, argument="noise")
    ftol, max_steps, block = search.ftol, search.max_steps, search.block
    if ftol is None:
        ftol = 1e-9 if real == np.float64 else 1e-7
    if not ftol > 0 or max_steps < 1 or (block is not None and block < 1):
        raise InputError(
            f"ftol={ftol} and block={block} must be positive, and max_steps={max_steps} 1 or more."
        )
    weighing, common = _weighing(cube, weighting, real)
    # What one curve would be told about x, weights and mask, all curves are.
    of_one = Weighting(weights=common, absolute_sigma=True)
    data = prepare_data(cube.x, np.zeros(rows.samples, real), of_one)
    plain_init, own_init = starts_by_curve(cube, constraints.init)
    plain_bounds, own_bounds = bounds_by_curve(cube, constraints.bounds)
    constraints = dataclasses.replace(constraints, init=plain_init, bounds=plain_bounds)
    with precision(real):
        declared = declare(model, data, plain_init)
        built, params = declared.model, declared.params(constraints)
        names = tuple(params)
        own = {n: v for p, v in own_init.items() for n in expand(p, names, "init")}
        boxes = {n: v for p, v in own_bounds.items() for n in expand(p, names, "bounds")}
        fix, boxes = held_by_curve(constraints.fix, names, own, boxes, params)
        constraints = dataclasses.replace(constraints, fix=fix)

        def guess(params):
            typical = prepare_data(cube.x, _typical(rows, dtype), of_one)
            return guess_starts(declared.basis, params, typical, constraints)

        setup = set_up(
            bounding_boxes(params, own, boxes), constraints, guess, built.interchangeable
        )
        layout = setup.layout
        if not own:
            check_distinct(built, layout, setup.numbers, setup.params, data)
        numbers, coordinates = setup.typed(real)[0], setup.coordinates
        columns = Assembled(
            without_names(built),
            without_names(layout),
            numbers,
            data.x,
            tuple(i for i in setup.priors if i in layout.free),
            real=constraints.coefficients.real and dtype != real,
        )
    refuse_what_has_no_own(layout, own, boxes)
    box = box_of(boxes, layout, coordinates, real)
    start = starts_of_curves(own, layout, coordinates, box, bool(boxes), real)
    return BatchJob(
        rows=rows,
        weighing=weighing,
        common=None if weighing.own or common is None else common,
        start=start,
        box=box,
        columns=columns,
        limits=Limits(
            np.asarray(ftol, real),
            np.asarray(max_steps),
            np.asarray(WARY, real),
            jax.tree.map(lambda a: np.asarray(a, real), noise),
        ),
        layout=layout,
        coordinates=coordinates,
        params=setup.params,
        model=built,
        x=data.x,
        dims=cube.dims,
        coords=cube.coords,
        absolute_sigma=weighting.absolute_sigma,
        dtype=dtype,
        block=block,
    ).sized()


def _typical(rows: Rows, dtype: np.dtype) -> np.ndarray:
    """What starts are found in: the mean of the curves; of complex ones, whose phases may cancel, some
    of them side by side (m, k)."""
    if dtype.kind != "c":
        return mean_curve(rows, dtype)
    some = _finite_ones(rows)
    return some[:: -(-len(some) // _SIDES)].T.astype(dtype)


def mean_curve(rows: Rows, dtype: np.dtype) -> np.ndarray:
    """The mean of the curves that are finite, of at most some thousands of them."""
    return _finite_ones(rows).mean(axis=0).astype(dtype)


def _finite_ones(rows: Rows) -> np.ndarray:
    some = rows.some()
    good = np.isfinite(some).all(axis=1)
    if not good.any():
        raise InputError(
            "Every curve has values that are not finite, so that no start can be found."
        )
    return some[good]


def _weighing(
    cube: Cube, weighting: Weighting, real: np.dtype
) -> tuple[Weighing, np.ndarray | None]:
    """Weights, and those of a typical curve (m,) for the checks of one."""
    if weighting.sigma is not None and weighting.weights is not None:
        raise InputError("Give sigma or weights, not both.")
    parts = {k: None if v is None else _part(k, cube, v) for k, v in weighting.arrays.items()}
    for what, part in parts.items():
        for some in _pieces(part):
            if what == "mask" and some.dtype != bool:
                raise InputError(
                    f"mask must be boolean, but has dtype {some.dtype}.", argument="mask"
                )
            if what == "sigma" and not (some > 0).all():
                raise InputError(
                    "sigma must be positive everywhere. Leave samples out with mask=.",
                    argument="sigma",
                )
            if not np.isfinite(some).all() or (some < 0).any():
                raise InputError(f"{what} must be finite and not negative.", argument=what)
    weighing = Weighing(**parts)
    if weighing.own:
        return weighing, None
    one = weighing.read(0, 1, real)
    if one is None:
        return weighing, None
    one = np.broadcast_to(one, (cube.rows.samples,)).astype(real)
    if not (one > 0).any():
        raise InputError(
            "No sample carries weight: all are masked or of zero weight.", argument="data"
        )
    return weighing, one


def _part(what: str, cube: Cube, value: Any) -> np.ndarray | Rows:
    rows = cube.rows_of(value)
    if rows is not None and rows.shape == cube.rows.shape and rows.samples == cube.rows.samples:
        return rows
    value = cube.plain(value)
    array = value if is_array(value) else np.asarray(value)
    m, whole = cube.rows.samples, (*cube.rows.shape, cube.rows.samples)
    if array.shape in ((), (m,)):
        return np.broadcast_to(np.asarray(array), (m,))
    if array.shape == whole:
        return Rows(array, len(whole) - 1)
    try:
        fits = len(array.shape) == len(whole) and np.broadcast_shapes(array.shape, whole) == whole
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"{what} has shape {array.shape}; expected a number, {(m,)} or {whole}.", argument=what
        )
    return Rows(np.broadcast_to(np.asarray(array), whole), len(whole) - 1)


def _pieces(part: np.ndarray | Rows | None):
    """What is in memory, in pieces; what would have to be read is judged when it is."""
    if isinstance(part, np.ndarray):
        yield part
    elif part is not None and isinstance(part.data, np.ndarray):
        for first in range(0, part.count, 4096):
            yield part.read(first, min(first + 4096, part.count))
