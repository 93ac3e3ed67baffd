"""What a batch is given, checked: the model, weights, starts and bounds."""

import dataclasses
import fnmatch
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import numpy as np

from .._errors import InputError
from .._given import arguments
from .._given.containers import lazy_parts, real_numbers, truth_of
from .._parameters.layout import expand
from .._problem.checks import check_distinct
from .._problem.columns import Assembled
from .._problem.data import prepare_data
from .._problem.linear_constraints import Linear, as_typed
from .._problem.model_like import ModelLike, takes_vectors
from .._problem.noise_covariance import is_covariance
from .._problem.options import Constraints, Weighting
from .._problem.within import Within
from .._search.batched_levenberg import Limits
from .._search.multistart import start_points
from .._starts.declare import Setup, declare, set_up
from .._starts.guess import guess_starts
from .._types import precision
from ..basis import Model, disperses, without_names
from .curve_source import CurveSource
from .curves import Rows, Weighing
from .job import WARY, BatchJob
from .labelled import Cube, own_positions
from .per_curve import (
    Blanks,
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
    starts: int = 1
    seed: int = 0

    def __check_init__(self):
        arguments.choice("start", self.start, get_args(Start))
        if arguments.whole("binning", self.binning) < 1:
            raise InputError(f"binning must be 1 or more, not {self.binning}.", argument="binning")
        for what, value in (("max_steps", self.max_steps), ("block", self.block)):
            if value is not None or what == "max_steps":
                arguments.whole(what, value)
        arguments.whole("starts", self.starts, 1)
        arguments.whole("seed", self.seed, 0)
        if self.ftol is not None:
            arguments.number("ftol", self.ftol)


def prepare(
    cube: Cube,
    model: ModelLike,
    constraints: Constraints,
    weighting: Weighting,
    search: BatchSearch,
) -> BatchJob:
    """Everything that does not depend on which curves are fitted, checked."""
    rows, noise = cube.rows, weighting.noise
    given = np.dtype(rows.data.dtype).newbyteorder("=")
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
    cube = _with_typical_positions(cube, model, search)
    weighing, common = _weighing(cube, weighting, real)
    # What one curve would be told about x, weights and mask, all curves are.
    mask = None if common is None else common > 0
    of_one = Weighting(weights=common, mask=mask, absolute_sigma=True, nan=weighting.nan)
    flat = takes_vectors(model)
    data = prepare_data(cube.x, np.zeros(rows.samples, real), of_one, flat=flat)
    if not data.keep.all():
        weighing = dataclasses.replace(weighing, positions=data.keep)
        common = data.weights
    blank = _blanks(rows, weighing, dtype)
    asked = constraints
    plain_init, own_init = starts_by_curve(cube, constraints.init, blank)
    plain_bounds, own_bounds = bounds_by_curve(cube, constraints.bounds, blank)
    middle = {name: float(np.median(value)) for name, value in own_init.items()}
    constraints = dataclasses.replace(constraints, init=plain_init, bounds=plain_bounds)
    by_curve = own_bounds
    if constraints.coefficients.automatic:
        raise InputError(
            "A penalty of strength 'gcv' is for vp.fit, which finds one for its data. Give a number.",
            argument="ridge",
        )
    if disperses(model):
        raise InputError(
            "A response of this model has a dispersion, which is for vp.fit of right-hand sides that share their "
            "parameters: curves with parameters of their own have times zero of their own as well.",
            argument="model",
        )
    with precision(real):
        declared = declare(model, data, plain_init | middle)
        constraints, own_bounds = _of_coefficients(declared.model, constraints, own_bounds)
        rules = _rules(declared.model, constraints, rows.count, dtype)
        if cube.own_x is None:
            declared = declared.placed(data, rules)
        elif not declared.model.rowwise:
            raise InputError(
                "Curves have positions of their own, but a column of this model depends on all of them at once. "
                "Give one x for all.",
                argument="x",
            )
        rules = _rules(declared.model, constraints, rows.count, dtype)
        built, params = declared.model, declared.params(constraints)
        names = tuple(params)
        own = {n: v for p, v in own_init.items() for n in expand(p, names, "init")}
        boxes = {n: v for p, v in own_bounds.items() for n in expand(p, names, "bounds")}
        fix, boxes = held_by_curve(constraints.fix, names, own, boxes, params)
        held = sorted({n for n in own if n in boxes and boxes[n][0] is boxes[n][1]})
        constraints = dataclasses.replace(constraints, fix=fix)

        def guess(params):
            curves = _typical(rows, weighing, dtype)
            if cube.own_x is not None:
                curves = _curve_at(rows, weighing, dtype, _typical_curve(cube))
            some = Weighting(weights=common, absolute_sigma=True, nan="drop")
            typical = prepare_data(cube.x, curves, some, flat=flat)
            return guess_starts(declared.basis, params, typical, constraints)

        # Rules for single coefficients tell components apart that are alike but for their names.
        alike = () if rules.sought else built.interchangeable
        boxed = bounding_boxes(params, own, boxes)
        setup = set_up(boxed, constraints, guess, alike, declared.lifetimes)
        layout = setup.layout
        if not own:
            check_distinct(built, layout.source, layout.free, setup.all_starts, data)
        numbers, coordinates = setup.typed(real)[0], setup.coordinates
        columns = Assembled(
            without_names(built),
            without_names(layout),
            numbers,
            data.x,
            tuple(i for i in setup.priors if i in layout.free),
            as_typed(dataclasses.replace(rules, lower=None, upper=None, sought=()), real),
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
            setup.inverses,
        ),
        layout=layout,
        coordinates=coordinates,
        params=setup.params,
        declared=declared,
        x=data.x,
        own_x=cube.own_x,
        dims=cube.dims,
        coords=cube.coords,
        data_names=cube.names,
        absolute_sigma=weighting.absolute_sigma,
        dtype=dtype,
        block=block,
        coef_box=_coef_box(rules, real),
        points=_points(setup, search, real),
        source=CurveSource(
            *(model, cube.x, cube.own_x, rows, weighing, dtype),
            dataclasses.replace(asked, init=plain_init, bounds=plain_bounds, fix=fix),
            *(by_curve, held, weighting),
        ),
    ).sized()


def _points(setup: Setup, search: BatchSearch, real: np.dtype) -> np.ndarray | None:
    """Starts among which each curve takes the best."""
    if search.starts == 1 or not setup.layout.free:
        return None
    return start_points(setup.coordinates, search.starts, search.seed).astype(real)


def _with_typical_positions(cube: Cube, model: ModelLike, search: BatchSearch) -> Cube:
    """A cube whose x are the positions of one curve that stands for all, where curves have their own."""
    own = own_positions(cube) if takes_vectors(model) else None
    if own is None:
        return cube
    cube = dataclasses.replace(cube, own_x=own)
    if search.start in ("global", "binned"):
        raise InputError(
            f"start={search.start!r} fits means of curves, and these have positions of their own. Use 'mean' or "
            "'neighbours'.",
            argument="start",
        )
    number = _typical_curve(cube)
    x = own.read(number, number + 1)[0]
    good = np.isfinite(x)
    if not good.any():
        raise InputError(f"x has no finite position in curve {number}.", argument="x")
    return dataclasses.replace(cube, x=np.where(good, x, x[np.argmax(good)]))


def _typical_curve(cube: Cube) -> int:
    """The number of the curve with the most in it, of at most some thousands."""
    best, number = -1.0, 0
    for first, last in cube.rows.some():
        curves = cube.rows.read(first, last)
        size = np.sum(np.abs(np.where(np.isfinite(curves), curves, 0.0)) ** 2, axis=1)
        if size.max() > best:
            best, number = float(size.max()), first + int(np.argmax(size))
    return number


def _curve_at(rows: Rows, weighing: Weighing, dtype: np.dtype, number: int) -> np.ndarray:
    """One curve (m,), NaN where it is not in use."""
    curve = rows.read(number, number + 1).astype(dtype)
    return np.where(in_use(weighing, number, number + 1, curve), curve, np.nan)[0]


def _of_coefficients(
    model: Model, constraints: Constraints, own_bounds: dict[str, tuple]
) -> tuple[Constraints, dict[str, tuple]]:
    """Constraints with all bounds of coefficients among their rules, and those of parameters that each
    curve has of its own."""
    columns = [
        name
        for name in own_bounds
        if not fnmatch.filter(model.names, name) and fnmatch.filter(model.columns, name)
    ]
    given = dict(constraints.bounds) | {name: own_bounds[name] for name in columns}
    constraints = dataclasses.replace(constraints, bounds=given)
    rest = {name: ends for name, ends in own_bounds.items() if name not in columns}
    return constraints.split(model.names, model.columns), rest


def _rules(model: Model, constraints: Constraints, count: int, dtype: np.dtype) -> Linear:
    """The rules for coefficients of `count` curves."""
    spec = constraints.coefficients
    if spec.areas:
        raise InputError(
            "equal_areas= is for right-hand sides that share their parameters, not for curves with parameters of "
            "their own.",
            argument="equal_areas",
        )
    for name, relation in spec.relations.items():
        if isinstance(relation, Within):
            raise InputError(
                f"relations of '{name}': vp.Within is for right-hand sides that share their parameters, not for "
                "curves with parameters of their own.",
                argument="relations",
                name=name,
            )
    return spec.rules(model.columns, count, model.order, dtype.kind == "c")


def _coef_box(rules: Linear, real: np.dtype) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds of coefficients (n,) of all curves, or (b, n) of each."""
    if rules.lower is None or rules.upper is None:
        return None
    ends = tuple(np.asarray(end, real) for end in (rules.lower, rules.upper))
    wide = any(end.shape[1] > 1 for end in ends)
    lower, upper = (np.ascontiguousarray(end.T) if wide else end[:, 0] for end in ends)
    return lower, upper


def _typical(rows: Rows, weighing: Weighing, dtype: np.dtype) -> np.ndarray:
    """What starts are found in: the mean of the curves; of complex ones, whose phases may cancel, some
    of them side by side (m, k). What is not in use is NaN."""
    if dtype.kind != "c":
        return mean_curve(rows, weighing, dtype)
    some = _good_ones(rows, weighing, dtype)
    return some[:: -(-len(some) // _SIDES)].T


def mean_curve(rows: Rows, weighing: Weighing, dtype: np.dtype) -> np.ndarray:
    """The mean of the curves that are finite, of at most some thousands of them; NaN for samples that
    none has in use."""
    some = _good_ones(rows, weighing, dtype)
    used = ~np.isnan(some)
    # Curves of which some samples are left out would bend the mean, where there are others.
    whole = used[:, used.any(axis=0)].all(axis=1)
    if whole.any():
        some, used = some[whole], used[whole]
    total = np.where(used, some, 0.0).sum(axis=0, dtype=np.promote_types(dtype, float))
    count = used.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(dtype)


def in_use(weighing: Weighing, first: int, last: int, curves: np.ndarray) -> np.ndarray:
    """Which values (b, m) of these curves carry weight."""
    weights = weighing.read(first, last, np.finfo(curves.dtype).dtype, curves)
    return np.broadcast_to(True if weights is None else weights > 0, curves.shape)


def _good_ones(rows: Rows, weighing: Weighing, dtype: np.dtype) -> np.ndarray:
    """Curves (b, m) of which all that is in use is finite, and the rest NaN."""
    found = []
    for first, last in rows.some():
        curves = rows.read(first, last).astype(dtype)
        used = in_use(weighing, first, last, curves)
        good = (np.isfinite(curves) | ~used).all(axis=1) & used.any(axis=1)
        found.append(np.where(used, curves, np.full((), np.nan, dtype))[good])
    some = np.concatenate(found)
    if not len(some):
        raise InputError(
            "Every curve has values that are not finite, so that no start can be found."
        )
    return some


def _blanks(rows: Rows, weighing: Weighing, dtype: np.dtype) -> Blanks:
    """Tells which of some curves have nothing that could be fitted."""

    def blank(numbers: np.ndarray) -> np.ndarray:
        found = np.zeros(len(numbers), bool)
        for i, number in enumerate(numbers.tolist()):
            curve = rows.read(number, number + 1).astype(dtype)
            used = in_use(weighing, number, number + 1, curve)
            found[i] = not used.any() or not np.isfinite(curve[used]).all()
        return found

    return blank


def _weighing(
    cube: Cube, weighting: Weighting, real: np.dtype
) -> tuple[Weighing, np.ndarray | None]:
    """Weights, and those of a typical curve (m,) for the checks of one."""
    if weighting.sigma is not None and weighting.weights is not None:
        raise InputError("Give sigma or weights, not both.")
    parts = {k: None if v is None else _part(k, cube, v) for k, v in weighting.arrays.items()}
    drop = weighting.nan == "drop"
    weighing = Weighing(parts["sigma"], parts["weights"], parts["mask"], cube.absent, drop)
    # What would have to be read is judged when it is.
    for what in ("sigma", "weights"):
        part = parts[what]
        if part is None or isinstance(part, Rows) and not isinstance(part.data, np.ndarray):
            continue
        lazy = any(
            isinstance(p, Rows) and not isinstance(p.data, np.ndarray)
            for p in (parts["mask"], cube.absent)
        )
        if lazy:
            continue
        whole = dataclasses.replace(weighing, drop=False)
        count = cube.rows.count if whole.own else 1
        for first in range(0, count, 4096):
            found = whole.read(first, min(first + 4096, count), real)
            some = part.read(first, min(first + 4096, count)) if isinstance(part, Rows) else part
            assert found is not None
            wrong = ~np.isfinite(found)
            if weighing.drop:
                wrong = wrong & np.isfinite(some)
            if wrong.any():
                rule = "positive everywhere" if what == "sigma" else "finite and not negative"
                raise InputError(
                    f"{what} must be {rule}. Leave samples out with mask=.", argument=what
                )
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
    m = cube.rows.samples
    square = np.shape(value) == (m, m) and cube.rows.shape not in ((m,), ())
    if what == "sigma" and (is_covariance(value) or square):
        raise InputError(
            "A covariance of samples is for vp.fit, of one curve or of several that share parameters. Here "
            "give sigma as standard deviations.",
            argument="sigma",
        )
    rows = cube.rows_of(what, value)
    if rows is not None and rows.shape == cube.rows.shape and rows.samples == cube.rows.samples:
        return _truth(what, rows)
    value = cube.plain(what, value)
    array, missing = lazy_parts(value)
    if array is not None and what != "mask":
        real_numbers(what, np.zeros(0, array.dtype))
    if array is None or what == "mask" and isinstance(value, np.ndarray) or missing is not None:
        if what == "mask":
            array = truth_of(what, value).values
        else:
            array = real_numbers(what, value)
    shape = cube.rows.shape
    whole = (*shape, m)
    if tuple(array.shape) in ((), (m,)):
        return np.broadcast_to(np.asarray(array), (m,))
    if tuple(array.shape) == whole:
        return _truth(what, Rows(array, len(whole) - 1))
    if tuple(array.shape) == shape:  # one for each curve
        array = np.asarray(array)[..., None]
    try:
        fits = len(array.shape) == len(whole) and np.broadcast_shapes(array.shape, whole) == whole
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"{what} has shape {tuple(array.shape)}; expected a number, {(m,)}, {shape} or {whole}.",
            argument=what,
        )
    return _truth(what, Rows(np.broadcast_to(np.asarray(array), whole), len(whole) - 1))


def _truth(what: str, rows: Rows) -> Rows:
    """Refuse a mask of numbers, and weights that are none."""
    empty = np.zeros(0, rows.data.dtype)
    truth_of(what, empty) if what == "mask" else real_numbers(what, empty)
    return rows
