"""Which arrays of a file are x and y, and what weighs them."""

import re
import warnings
from pathlib import Path

import numpy as np

import varpro as vp

from ..config.messages import nearest
from ..data.formats import read_arrays
from ..data.lazily import OTHERS, values_of
from ..scaffold.starter import quoted
from .found import Asked, Found
from .looks import SIGMA, X, monotonic, noise_of, shortlist

_ALONG = re.compile(r"(?i)time|delay|zeit|^t$|^tau$")
# Axes of a picture, which curves lie along where there is no other.
_PLACE = re.compile(r"(?i)[xyz]|rows?|col(umn)?s?|pixels?")
# Counts in one curve below which they say less of its form than the mean of all curves does.
_FEW_COUNTS = 1000
# Arrays of a file that are looked at before one is chosen.
_TOLD = 50


def columns_of_arrays(source: Path, asked: Asked) -> Found:
    dataset = read_arrays(source)
    known = {str(n): v for n, v in dataset.variables.items() if v.dtype.kind in "iufc" and v.ndim}

    def chosen(name: str, option: str) -> str:
        short = [n for n in known if n == name or n.rpartition("/")[2] == name]
        if not short:
            raise vp.InputError(f"{source}: {option}: no array '{name}'. {nearest(name, known)}")
        return short[0]

    def vector(name: str) -> np.ndarray:
        return np.asarray(values_of(dataset, name, source))

    vectors = {n: v for n, v in known.items() if v.ndim == 1 and v.size > 1}
    axes = [n for n in vectors if X.fullmatch(n.rpartition("/")[2])]
    rising = [n for n in vectors if known[n].dtype.kind in "iuf" and monotonic(vector(n))]
    if len(known) == 1:
        raise _alone(source, *known.popitem())
    # What is on axes of its own, largest first.
    bodies = sorted((n for n in known if known[n].ndim > 1), key=lambda n: -known[n].ndim)
    bodies = [n for n in bodies if not SIGMA.fullmatch(n.rpartition("/")[2])] or bodies
    if asked.x is not None:
        axes = [chosen(asked.x, "--x")]
    elif not axes:
        axes = rising
    if asked.y:
        y_name = chosen(asked.y[0], "--y")
        bodies = [y_name] if known[y_name].ndim > 1 else []
    # Of several axes, the one that decays or peaks lie along is called time or comes first.
    lengths = {n: known[n].size for n in axes}
    axes = sorted(axes, key=lambda n: bool(_PLACE.fullmatch(n.rpartition("/")[2])))
    along = [n for n in axes if _ALONG.search(n.rpartition("/")[2])] + axes
    if bodies:
        y_name = bodies[0] if not asked.y else chosen(asked.y[0], "--y")
        body = known[y_name]
        fitting = [n for n in along if set(known[n].dims) <= set(body.dims)]
        fitting = fitting or [n for n in along if lengths[n] in body.shape]
        if not fitting and not vectors:
            raise _alone(source, y_name, body)
        if not fitting:
            raise vp.InputError(
                f"{source}: '{y_name}' {body.shape} lies along none of {shortlist(list(vectors))}. Which "
                "array is x? --x NAME"
            )
        x_name = fitting[0]
        if body.ndim > 2:
            return _cube(source, dataset, x_name, y_name, asked)
        if known[x_name].dims[0] not in body.dims:
            raise vp.InputError(
                f"{source}: '{y_name}' {body.shape} has no axis in common with '{x_name}'. Write the "
                "configuration without --from."
            )
        y = values_of(dataset.transpose(known[x_name].dims[0], ...), y_name, source)
    else:
        free = [n for n in vectors if n not in axes] if not asked.y else [chosen(asked.y[0], "--y")]
        free = [n for n in free if not SIGMA.fullmatch(n.rpartition("/")[2])] or free
        if not asked.y:
            # What hardly changes is a setting or a flag.
            varied = {n: np.unique(vector(n)).size for n in free[:_TOLD]}
            free = [n for n in free if varied.get(n, 4) > 3] or free
        pairs = [
            (a, b) for a in dict.fromkeys(along) for b in free if known[a].dims == known[b].dims
        ]
        pairs = [(a, b) for a, b in pairs if a != b]
        if not pairs:
            others = dataset.attrs.get(OTHERS, {})
            there = [*map(str, dataset.variables), *(f"{n} ({what})" for n, what in others.items())]
            raise vp.InputError(
                f"{source}: found no x and y among {shortlist(there)}. Name them: --x NAME --y NAME"
            )
        x_name, y_name = pairs[0]
        y = vector(y_name)[:, None]
    rest = [n for n in known if n not in (x_name, y_name) and n not in axes]
    said = [f"x is '{x_name}', y is {y_name}"]
    if rest:
        said.append(f"not used: {shortlist(rest)} (--x and --y choose others)")
    noise = noise_of(y, y_name, asked) if y.shape[1] == 1 else asked.noise
    keys = {"x": quoted(x_name), "y": f"[{quoted(y_name)}]"}
    x = np.asarray(vector(x_name), float)
    if noise == "poisson":
        said.append("noise: poisson (y holds counts)" if asked.noise is None else "noise: poisson")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        keys["nan"] = "drop"
        said.append("gaps are left out (nan: drop)")
    return Found(x, y, None, keys, noise, False, False, tuple(said))


def _alone(source: Path, name: str, body) -> vp.InputError:
    return vp.InputError(
        f"{source}: '{name}' {body.shape} stands alone, and no array says where its samples lie. Save positions "
        "and values as arrays of their own, or write it as a table."
    )


def _cube(source: Path, dataset, x_name: str, y_name: str, asked: Asked) -> Found:
    """A cube of curves: every one for itself, guessed from a bright one, for the mean of decays that differ is
    no decay; from the mean of all where one holds few counts."""
    body, positions = dataset[y_name], dataset[x_name]
    x = np.asarray(values_of(dataset, x_name, source), float)
    axes = [d for d in body.dims if d in positions.dims]
    axis = str(axes[0]) if axes else str(body.dims[body.shape.index(x.size)])
    y = np.asarray(values_of(dataset, y_name, source))
    y = np.moveaxis(y, body.dims.index(axis), 0).reshape(x.size, -1)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        typical = np.nanmean(y, axis=1)
        strength = np.nan_to_num(np.nansum(np.abs(y - np.nanmedian(y, axis=0)), axis=0))
    bright = y[:, np.argsort(strength)[int(0.9 * (strength.size - 1))]]
    curves = " x ".join(str(n) for d, n in zip(body.dims, body.shape, strict=True) if d != axis)
    said = [f"x is '{x_name}', y is {y_name}, {curves} curves of which each is fitted for itself"]
    noise = noise_of(y[:, :50], y_name, asked)
    if noise == "poisson":
        said.append("noise: poisson (y holds counts)" if asked.noise is None else "noise: poisson")
    if np.isfinite(bright).all() and (noise != "poisson" or bright.sum() >= _FEW_COUNTS):
        typical = bright
    keys = {"variable": quoted(y_name), "x": quoted(x_name)}
    return Found(x, typical[:, None], None, keys, noise, True, False, tuple(said))
