"""Optimised dynamic mode decomposition: exponentials in time that many rows share.

    X[:, j] ~ sum_i b_i phi_i exp(lambda_i (t_j - t_0)),        t_0 the earliest snapshot

is separable, with the r eigenvalues lambda as nonlinear parameters and the modes as coefficients of
the right-hand sides, one for each row of X (Askham and Kutz, SIAM J. Appl. Dyn. Syst. 17, 380 (2018)).
How all rows are searched at the price of a few is said in `varpro._dmd.optimise`.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Array, PyTree

from .._errors import FitError, InputError
from .._given.arguments import flag
from .._given.containers import numbers_of, read, real_numbers
from .._given.names import places_of
from .._problem.compress import Compressed, column_blocks, compress, is_stream
from .._problem.problem import Problem
from .._search.minimise import Solver, search, typed
from .._status import Status
from .._types import precision
from .bagging import assemble_bags, draw_bags
from .constraints import Band, EigenvalueConstraints, check_bands, choose_start, coordinate_bounds
from .exponentials import Exponentials, Spectrum
from .initial import candidates, leading, leading_exactly
from .optimise import optimise
from .result import DmdResult, Errors

Start = Literal["auto", "dmd", "pencil"]


def dmd(
    X: Any,
    t: np.ndarray,
    r: int,
    *,
    real: bool | None = None,
    stable: bool = False,
    imaginary: bool = False,
    bands: Band | Sequence[Band] | None = None,
    init: Start | np.ndarray = "auto",
    weights: np.ndarray | None = None,
    truncate: int | None = None,
    num_bags: int = 0,
    bag_size: int | float | None = None,
    key: int | Array = 0,
    solver: Solver | None = None,
    max_steps: int | None = None,
    throw: bool = False,
) -> DmdResult:
    """Fit `X[..., j] ~ sum_i b_i phi_i exp(lambda_i (t_j - t_0))`: optimised dynamic modes.

    Least squares over all eigenvalues and modes at once, for snapshots at any times: without the bias
    that noise gives to exact DMD. Nothing of the data is left out unless `truncate` asks for it.

    **Arguments:**

    - `X`: snapshots (..., m), the last axis in time; real or complex. A `numpy.memmap` (k, m) is read
        in blocks of rows, and `varpro.compress` makes a `Compressed` of rows that never were in one
        place, given as blocks (m, k_i).
    - `t`: times (m,), in any spacing and order.
    - `r`: the number of eigenvalues.
    - `real`: whether eigenvalues are real or come in conjugate pairs, so that the model is real; by
        default for real X. How many pairs there are is decided at the start.
    - `stable`: real parts at most zero. `imaginary`: real parts zero.
    - `bands`: the range of frequencies `im(lambda) / 2 pi`, in cycles per unit of t: (low, high) for all
        waves, or one for each: r of them, or with `real` one for each pair, and the other r - 2 pairs
        eigenvalues are real.
    - `init`: starts: "dmd", "pencil", "auto" (default, the better one), or r eigenvalues; of pairs, both.
    - `weights`: (m,), one over the standard deviation of each snapshot, or zero to leave it out.
    - `truncate`: replace X by its leading singular directions, so many, as BOPDMD does with r of them.
    - `num_bags`: fits of so many random subsets of the snapshots, whose spread gives standard errors
        without any model of the noise; see `DmdBags`. They are drawn by `key`, a seed or a key of
        `jax.random`, each of `bag_size` snapshots, a number or a fraction; 0.6 by default.
    - `solver`, `max_steps`, `throw`: as in `varpro.fit`.

    **Returns:** a `DmdResult`, modes by decreasing amplitude.

    **Raises:** `InputError` for anything given that cannot be right, before any computation; `FitError`
    if `throw` and the search did not converge.
    """
    if not isinstance(X, Compressed) and not is_stream(X):
        X, weights = _in_memory(X, t, weights)
    t = real_numbers("t", t)
    y, shape, count = _snapshots(X)
    x, first, weights = _times(t, len(y), weights, np.finfo(y.dtype).dtype)
    if not np.any(y if weights is None else y[weights > 0]):
        raise InputError("X is zero in every snapshot in use, so it has no modes.", argument="X")
    real = bool(np.isrealobj(y)) if real is None else flag("real", real)
    for what, value in (("stable", stable), ("imaginary", imaginary), ("throw", throw)):
        flag(what, value)
    if real and np.iscomplexobj(y):
        raise InputError("real=True makes a real model, but X is complex. Leave real= out.")
    if not real:
        y = y.astype(np.result_type(y, np.complex64), copy=False)
    constraints = _check_constraints(r, real, stable, imaginary, bands)
    _check_counts(y, count, constraints, weights, truncate, num_bags, bag_size)
    how = typed(search(solver, None, None, max_steps), x.dtype)
    used = slice(None) if weights is None else weights > 0
    directions = None
    if truncate is not None and truncate < min(y.shape):
        directions = _directions(y if weights is None else weights[:, None] * y, truncate)
        y, count = y @ directions, directions.shape[1]
    if isinstance(init, str):
        reduced = leading(y[used], r)
        start_candidates = _initial_candidates(x[used], reduced, constraints, init)
    else:
        reduced, start_candidates = None, [_check_initial(init, r)]
    spectrum, alpha = choose_start(x[used], reduced, constraints, start_candidates)
    bounds = coordinate_bounds(spectrum, constraints, x.dtype)
    with precision(x.dtype):
        solution = optimise(spectrum, x, y, weights, alpha.astype(x.dtype), bounds, how)
        bags = None
        if num_bags:
            sizes = (num_bags, _bag_size(bag_size, x[used].size))
            samples = y if y.shape[1] <= len(y) else compress(y).columns
            problem = Problem(Exponentials(x, spectrum), samples, weights)
            bags = draw_bags(problem, solution["alpha"], bounds, how, sizes, key), sizes[1]
    if directions is not None:
        solution["projector"] = _truncated_projector(solution["inverse"], y, weights)
    coef = None if shape is None else solution["coef"]
    if shape is not None and is_stream(X):
        # In a second reading.
        blocks = [solution["projector"] @ np.asarray(block) for block in column_blocks(X.T)]  # pyright: ignore[reportAttributeAccessIssue]
        coef = np.concatenate(blocks, axis=1)
    elif coef is not None and directions is not None:
        coef = coef @ directions.conj().T
    result = _assemble_result(
        X, t, first, shape, spectrum, constraints, solution, coef, count, weights, bags
    )
    if throw and not result.success:
        raise FitError(f"The search did not converge: {result.message}", result)
    return result


def _in_memory(X: Any, t: Any, weights: Any) -> tuple[np.ndarray, Any]:
    """X as numbers with its samples last, and the weights, zero for snapshots that a mask covers."""
    given = numbers_of("X", X)
    array, absent = given.values, given.missing
    names = [axis.name for axis in given.axes]
    at = read("t", t)
    if len(at.axes) == 1 and at.axes[0].name in names:
        axis = names.index(at.axes[0].name)
        places = places_of("t", at.axes[0], given.axes[axis])
        if places is not None:
            raise InputError("t and X have their times in different orders. Sort one of them.")
        array = np.moveaxis(array, axis, -1)
        absent = None if absent is None else np.moveaxis(absent, axis, -1)
    if absent is None or not absent.any():
        return array, weights
    rows = absent.reshape(-1, absent.shape[-1])
    if not (rows == rows[:1]).all():
        raise InputError(
            "X is masked, but not the same snapshots in all of its rows. Only whole snapshots can be left "
            "out.",
            argument="X",
        )
    weights = np.ones(len(rows[0])) if weights is None else real_numbers("weights", weights)
    return np.where(absent, 0.0, array), np.where(rows[0], 0.0, weights)


def _snapshots(X: Any) -> tuple[np.ndarray, tuple[int, ...] | None, int]:
    """Check X and return right-hand sides (m, k), the axes of a snapshot (None if unknown), and the
    number of rows, which is above k for compressed data."""
    if isinstance(X, Compressed):
        return X.columns, None, X.count
    if is_stream(X):
        if not hasattr(X, "T"):
            raise InputError(
                "X is given as an array (..., m). Rows that are read in blocks go through "
                "vp.compress(blocks) first, as blocks (m, k_i)."
            )
        compressed = compress(X.T)
        return compressed.columns, tuple(X.shape[:-1]), compressed.count
    array = X
    if array.ndim < 1 or array.size == 0:
        raise InputError(
            f"X has shape {array.shape}; expected snapshots (..., m), none of it empty."
        )
    # Samples first, without a copy: what follows are products, which take either order.
    y = array.reshape(-1, array.shape[-1]).T
    if not np.isfinite(y).all():
        bad = ~np.isfinite(y)
        j, i = np.argwhere(bad)[0]
        raise InputError(
            f"X contains {int(bad.sum())} non-finite values, the first in snapshot {j}, row {i}. Leave "
            "snapshots out of X and t, or set values that are missing."
        )
    if not y.any():
        raise InputError("X is zero everywhere: there is nothing that changes.", argument="X")
    return y, array.shape[:-1], y.shape[1]


def _times(
    t: np.ndarray, m: int, weights: np.ndarray | None, real: np.dtype
) -> tuple[np.ndarray, float, np.ndarray | None]:
    """Check times and weights; return times since the earliest (m,), the earliest, and the weights."""
    time = t
    if time.shape != (m,):
        raise InputError(
            f"t has shape {time.shape}, but X has {m} snapshots along its last axis; expected ({m},)."
        )
    if not np.isfinite(time).all():
        raise InputError("t contains values that are not finite.")
    if weights is not None:
        weights = real_numbers("weights", weights)
        if weights.shape != (m,):
            raise InputError(f"weights has shape {weights.shape}; expected ({m},) real numbers.")
        if not np.isfinite(weights).all() or (weights < 0).any() or not (weights > 0).any():
            raise InputError("weights must be finite, zero or more, and some above zero.")
        weights = weights.astype(real)
    used = time if weights is None else time[weights > 0]
    if np.unique(used).size < 2:
        raise InputError(
            "All snapshots are at one time: nothing can be told about how they change."
        )
    first = float(time.min())
    return (time - first).astype(real), first, weights


def _check_constraints(
    r: int, real: bool, stable: bool, imaginary: bool, bands: Band | Sequence[Band] | None
) -> EigenvalueConstraints:
    """Check r and the bands."""
    if not isinstance(r, int | np.integer) or isinstance(r, bool) or r < 1:
        raise InputError(f"r={r!r}: give the number of eigenvalues, an integer of at least 1.")
    return EigenvalueConstraints(int(r), real, stable, imaginary, check_bands(bands, int(r), real))


def _check_counts(
    y: np.ndarray,
    count: int,
    constraints: EigenvalueConstraints,
    weights: np.ndarray | None,
    truncate: int | None,
    num_bags: int,
    bag_size: int | float | None,
) -> None:
    """Refuse too few snapshots, and sizes of truncation and bags that cannot be."""
    m = len(y) if weights is None else int(np.sum(weights > 0))
    parts = 1 if constraints.real else 2
    values, unknown = parts * m * count, (2 if not constraints.imaginary else 1) * constraints.r
    unknown += parts * constraints.r * count
    if m <= constraints.r or values < unknown:
        raise InputError(
            f"{m} snapshots of {count} rows cannot determine {constraints.r} eigenvalues and their modes. "
            "Give more snapshots, or a smaller r."
        )
    if truncate is not None and not (isinstance(truncate, int | np.integer) and truncate >= 1):
        raise InputError(f"truncate={truncate!r}: give how many directions to keep, at least 1.")
    if not isinstance(num_bags, int | np.integer) or num_bags < 0 or num_bags == 1:
        raise InputError(f"num_bags={num_bags!r}: give 2 or more, or 0 for none.")
    if num_bags and not constraints.r < _bag_size(bag_size, m) < m:
        raise InputError(
            f"bag_size={bag_size!r} is {_bag_size(bag_size, m)} of {m} snapshots; give more than "
            f"r={constraints.r} and fewer than all of them."
        )


def _bag_size(size: int | float | None, m: int) -> int:
    """Snapshots in a bag, from a number or a fraction of m; -1 for a fraction outside (0, 1)."""
    size = 0.6 if size is None else size
    if isinstance(size, int | np.integer):
        return int(size)
    return int(round(size * m)) if 0.0 < size < 1.0 else -1


def _initial_candidates(
    x: np.ndarray, small: np.ndarray, constraints: EigenvalueConstraints, init: str
) -> list[np.ndarray]:
    """Candidates of r eigenvalues by the method that `init` names."""
    if init not in get_args(Start):
        raise InputError(f"init must be one of {get_args(Start)} or eigenvalues, not {init!r}.")
    return candidates(x, small, constraints.r, init)


def _check_initial(init: np.ndarray, r: int) -> np.ndarray:
    """Check r eigenvalues to start from."""
    eigenvalues = numbers_of("init", init).values
    if eigenvalues.shape != (r,) or not np.issubdtype(eigenvalues.dtype, np.number):
        raise InputError(f"init has shape {eigenvalues.shape}; expected {r} eigenvalues.")
    if not np.isfinite(eigenvalues).all() or np.unique(eigenvalues).size < r:
        raise InputError(
            "init: eigenvalues to start from must be finite and differ from each other."
        )
    return eigenvalues.astype(complex)


def _directions(y: np.ndarray, count: int) -> np.ndarray:
    """Leading right singular vectors (k, count) of y (m, k)."""
    directions = leading_exactly(y, count)
    if directions is not None:
        return directions
    if y.shape[1] > len(y):
        q, upper = np.linalg.qr(y.conj().T)
        return q @ np.linalg.svd(upper, full_matrices=False)[0][:, :count]
    return np.linalg.svd(y, full_matrices=False)[2][:count].conj().T


def _truncated_projector(inverse: np.ndarray, y: np.ndarray, weights: np.ndarray | None):
    """Projector (n, m) that makes coefficients of data before truncation, from the inverse (n, m) for
    truncated data y (m, q): data are projected on the range of these first."""
    w = np.ones(len(y), np.real(y).dtype) if weights is None else weights
    q = np.linalg.qr(w[:, None] * y)[0]
    return ((inverse @ q) @ q.conj().T) * w


def _assemble_result(
    X: Any,
    t: np.ndarray,
    first: float,
    shape: tuple[int, ...] | None,
    spectrum: Spectrum,
    constraints: EigenvalueConstraints,
    solution: dict[str, PyTree],
    coef: np.ndarray | None,
    count: int,
    weights: np.ndarray | None,
    bags: tuple[dict[str, np.ndarray], int] | None,
) -> DmdResult:
    """Assemble the result, eigenvalues by decreasing amplitude."""
    n, parts = spectrum.count, 1 if constraints.real else 2
    m = len(t) if weights is None else int(np.sum(weights > 0))
    dof = parts * (m - n) * count - int(np.sum(~solution["on_bound"]))
    chisq = solution["chisq"]
    # The norm of rows that were compressed or turned is theirs.
    norms = np.linalg.norm(spectrum.coefficients(solution["coef"]), axis=1)
    order = np.argsort(-norms, kind="stable")
    amplitudes, modes = norms[order], None
    if coef is not None and shape is not None:
        coefficients = spectrum.coefficients(coef)[order]
        modes = (coefficients / np.where(amplitudes > 0, amplitudes, 1.0)[:, None]).T.reshape(
            *shape, n
        )
    status: Status = solution["status"]
    keys = ("half", "gram_inv", "turn", "on_bound", "lost", "inner")
    errors = Errors(*(np.asarray(solution[key]) for key in keys))
    values = spectrum.eigenvalues(solution["alpha"])
    dmd_bags = None if bags is None else assemble_bags(bags[0], spectrum, values, order, bags[1], m)
    return DmdResult(
        eigenvalues=values[order],
        amplitudes=amplitudes,
        modes=modes,
        t=np.asarray(t),
        t0=first,
        X=X,
        rows=count,
        real=constraints.real,
        success=status.converged,
        status=status.name,
        message=status.message,
        stop=status.stop,
        chisq=chisq,
        dof=dof,
        weights=weights,
        num_steps=int(status.num_steps),
        num_residuals=int(status.num_residuals),
        rank=int(solution["rank"]),
        cond=float(solution["cond"]),
        order=order,
        spectrum=spectrum,
        alpha=solution["alpha"],
        projector=solution["projector"],
        errors=errors,
        bags=dmd_bags,
    )
