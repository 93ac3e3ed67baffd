"""What a batch is given, checked: the model, weights, starts and bounds."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._errors import InputError
from .._parameters.layout import Layout, build_layout, expand
from .._parameters.param import Param
from .._parameters.tie import TieLike
from .._problem.checks import check_distinct
from .._problem.columns import Assembled
from .._problem.data import prepare_data
from .._problem.model_like import ModelLike, as_basis, starts_of
from .._problem.noise import AbstractNoise
from .._search.batched_levenberg import Limits
from .._starts.guess import guess_starts
from .._types import precision
from ..basis import build_model, without_names
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

# Complex curves in which starts are found.
_SIDES = 256


def prepare(
    cube: Cube,
    model: ModelLike,
    *,
    init: Mapping[str, Any] | None,
    bounds: Mapping[str, tuple] | None,
    fix: str | Sequence[str],
    tie: Mapping[str, TieLike] | None,
    order: Sequence,
    sigma: Any,
    weights: Any,
    mask: Any,
    absolute_sigma: bool,
    noise: AbstractNoise,
    ftol: float | None,
    max_steps: int,
    block: int | None,
    real_coefficients: bool,
) -> BatchJob:
    """Everything that does not depend on which curves are fitted, checked."""
    rows = cube.rows
    given = np.dtype(rows.data.dtype)
    real = np.dtype(np.float32 if given in (np.float32, np.complex64) else np.float64)
    dtype = np.result_type(real, np.complex64) if given.kind == "c" else real
    if sentence := noise.refusal(np.zeros(0, dtype)):
        raise InputError(sentence)
    if ftol is None:
        ftol = 1e-9 if real == np.float64 else 1e-7
    if not ftol > 0 or max_steps < 1 or (block is not None and block < 1):
        raise InputError(
            f"ftol={ftol} and block={block} must be positive, and max_steps={max_steps} 1 or more."
        )
    weighing, common = _weighing(cube, sigma, weights, mask, real)
    # What one curve would be told about x, weights and mask, all curves are.
    sample = np.zeros(rows.samples, real)
    data = prepare_data(cube.x, sample, weights=common, absolute_sigma=True)
    plain_init, own_init = starts_by_curve(cube, init or {})
    plain_bounds, own_bounds = bounds_by_curve(cube, bounds or {})
    with precision(real):
        basis = as_basis(model, plain_init).prepared(data.x, real)
        built = build_model(basis)
        params = starts_of(basis, plain_init, plain_bounds)
        names = tuple(params)
        own = {n: v for p, v in own_init.items() for n in expand(p, names, "init")}
        boxes = {n: v for p, v in own_bounds.items() for n in expand(p, names, "bounds")}
        fix = [fix] if isinstance(fix, str) else list(fix)
        chains = [order] if order and isinstance(order[0], str) else order
        fix, boxes = held_by_curve(fix, names, own, boxes, params)
        params = bounding_boxes(params, own, boxes)
        if any(param.init is None for param in params.values()):
            params = guess_starts(
                basis,
                params,
                prepare_data(cube.x, _typical(rows, dtype), weights=common, absolute_sigma=True),
                fix=fix,
                tie=tie,
                order=chains,
            )
        layout, numbers, coordinates = build_layout(
            params, fix=fix, tie=tie or {}, order=chains, interchangeable=built.interchangeable
        )
        if not own:
            check_distinct(built, layout, numbers, params, data)
        numbers = jax.tree.map(lambda a: a.astype(real), numbers)
        columns = Assembled(
            *(
                without_names(built),
                without_names(layout),
                numbers,
                data.x,
                _priors(layout, params),
            ),
            real=real_coefficients and dtype != real,
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
            np.asarray(ftol, real),  # pyright: ignore[reportArgumentType]
            np.asarray(max_steps),  # pyright: ignore[reportArgumentType]
            np.asarray(WARY, real),  # pyright: ignore[reportArgumentType]
            jax.tree.map(lambda a: np.asarray(a, real), noise),
        ),
        layout=layout,
        coordinates=coordinates,
        params=params,
        model=built,
        x=data.x,
        dims=cube.dims,
        coords=cube.coords,
        absolute_sigma=absolute_sigma,
        dtype=dtype,
        block=block,
    ).sized()


def _priors(layout: Layout, params: Mapping[str, Param]) -> tuple[int, ...]:
    priors = (i for i, q in enumerate(params.values()) if q.prior is not None)
    return tuple(i for i in priors if i in layout.free)


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
    cube: Cube, sigma: Any, weights: Any, mask: Any, real: np.dtype
) -> tuple[Weighing, np.ndarray | None]:
    """Weights, and those of a typical curve (m,) for the checks of one."""
    if sigma is not None and weights is not None:
        raise InputError("Give sigma or weights, not both.")
    given = {"sigma": sigma, "weights": weights, "mask": mask}
    parts = {k: None if v is None else _part(k, cube, v) for k, v in given.items()}
    for what, part in parts.items():
        for some in _pieces(part):
            if what == "mask" and some.dtype != bool:
                raise InputError(f"mask must be boolean, but has dtype {some.dtype}.")
            if what == "sigma" and not (some > 0).all():
                raise InputError("sigma must be positive everywhere. Leave samples out with mask=.")
            if not np.isfinite(some).all() or (some < 0).any():
                raise InputError(f"{what} must be finite and not negative.")
    weighing = Weighing(**parts)
    if weighing.own:
        return weighing, None
    one = weighing.read(0, 1, real)
    if one is None:
        return weighing, None
    one = np.broadcast_to(one, (cube.rows.samples,)).astype(real)
    if not (one > 0).any():
        raise InputError("No sample carries weight: all are masked or of zero weight.")
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
        raise InputError(f"{what} has shape {array.shape}; expected a number, {(m,)} or {whole}.")
    return Rows(np.broadcast_to(np.asarray(array), whole), len(whole) - 1)


def _pieces(part: np.ndarray | Rows | None):
    """What is in memory, in pieces; what would have to be read is judged when it is."""
    if isinstance(part, np.ndarray):
        yield part
    elif part is not None and isinstance(part.data, np.ndarray):
        for first in range(0, part.count, 4096):
            yield part.read(first, min(first + 4096, part.count))
