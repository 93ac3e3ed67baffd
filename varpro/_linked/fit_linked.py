"""A fit of several data sets whose coefficients are the same but for scales, which are parameters.

Of one right-hand side the data sets stand one below the other,

    [y_1; y_2; ...] ~ [Phi_1; s_2 Phi_2; ...] c

so that it is the fit of one data set with more rows. Right-hand sides are one by their labels; where a data set
has none of that label, its rows are left out.
"""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._errors import InputError, suggestion
from .._given.arguments import number
from .._given.names import Names
from .._global.data_sets import data_of_all
from .._global.global_fit import GlobalFit
from .._global.parameter_names import (
    applied,
    asked_names,
    full_name,
    guessed,
    init_of,
    model_of,
    named,
    of_all,
    shared_names,
)
from .._parameters.param import Param
from .._problem.data import Data
from .._problem.model_like import ModelLike
from .._problem.options import Constraints, Weighting
from .._results.fit_result import FitResult
from .._search.multistart import Multistart
from .._single.fit_single import fit_data
from .._starts.declare import declare_all
from .._types import precision
from .joined import Joined
from .views import view_of

Scale = Param | float | Mapping[str, "Param | float"]


def fit_linked(
    model: ModelLike | Mapping[str, ModelLike],
    sets: Mapping[str, tuple[PyTree, Any]],
    share: str | Sequence[str],
    link: str | Sequence[str],
    scale: Mapping[str, Scale] | None,
    constraints: Constraints,
    weighting: Weighting,
    search: Multistart,
    dim: str | None = None,
) -> GlobalFit:
    """What `varpro.fit` does with several data sets whose coefficients are linked."""
    datas = data_of_all(sets, weighting, dim, model)
    keys = tuple(datas)
    labels, places = _right_hand_sides(datas)
    real = np.result_type(*(data.real for data in datas.values()))
    with precision(real):
        given: dict[str, ModelLike] = {key: model_of(model, key, sets) for key in keys}
        inits = {key: init_of(constraints.init, key) for key in keys}
        wide = {}
        for key, data in datas.items():
            # A dispersion must know the wavelengths of all data sets together.
            said = None if data.names.numbers is None else labels
            names = dataclasses.replace(data.names, columns=said)
            shape = np.zeros((len(data.y), len(labels)), data.y.dtype)
            wide[key] = dataclasses.replace(data, y=shape, names=names)
        models = declare_all(given, wide, inits)
        if any(each.model.offsets for each in models.values()):
            raise InputError(
                "link: a model has a term without a coefficient (vp.Offset), which linked data sets have not."
            )
        declared = {key: each.own_params for key, each in models.items()}
        shared = shared_names(share, declared)
        params, own = named(declared, shared, constraints.init)
        columns, of_sets, linked = _columns(
            {key: each.model.columns for key, each in models.items()}, link
        )
        factors = _scales(scale, keys, {k: m.model.columns for k, m in models.items()}, linked)
        own = (*own, *(name.partition(".")[2] for name in factors.params))
        params |= factors.params
        names = tuple(params)
        picks = {
            key: tuple(names.index(full_name(key, name, shared)) for name in declared[key])
            for key in keys
        }
        constraints = constraints.split((*names, *own), columns)
        params = applied(params, own, constraints)
        arrays = {key: np.array(pick, int) for key, pick in picks.items()}
        if any(param.init is None for param in params.values()):
            own_models = declare_all(given, datas, inits)
            params = guessed(params, own_models, datas, arrays, declared)
        where = [tuple(names.index(n) if n else -1 for n in factors.of_sets[key]) for key in keys]
        basis = Joined(
            tuple(models[key].model for key in keys),
            tuple(params.items()),
            columns,
            tuple(picks.values()),
            tuple(of_sets[key] for key in keys),
            tuple(where),
        )
        rules = of_all(constraints, names, own, datas)
        absent = _absent({key: each.model.columns for key, each in models.items()}, places, linked)
        spec = dataclasses.replace(
            rules.coefficients, bounds=_held_at_zero(rules.coefficients.bounds, absent)
        )
        rules = dataclasses.replace(rules, init={}, bounds={}, coefficients=spec)
        data = _below_each_other(datas, labels, places)
        joint = fit_data(basis, data, rules, search, weighting.noise)
    return _with_views(joint, basis, datas, places)


def _right_hand_sides(
    datas: Mapping[str, Data],
) -> tuple[np.ndarray | tuple[str, ...], dict[str, np.ndarray]]:
    """The labels of all right-hand sides together, and where those of each data set stand among them."""
    known = {key: data.names.numbers for key, data in datas.items()}
    counts = {key: data.y.shape[1] for key, data in datas.items()}
    if all(some is None for some in known.values()):
        if len(set(counts.values())) > 1:
            raise InputError(
                f"link: data sets differ in how many right-hand sides they have, {counts}. Give y with labels, "
                "such as wavelengths, by which they can be matched.",
                argument="link",
            )
        count = next(iter(counts.values()))
        words = {one for data in datas.values() if isinstance(one := data.names.columns, tuple)}
        if len(words) > 1:
            raise InputError(
                f"link: right-hand sides of data sets have different labels, {sorted(map(str, words))[:2]}. "
                "Give all the same labels in the same order, or numbers.",
                argument="link",
            )
        labels = next(iter(words)) if words else np.arange(count)
        return labels, {key: np.arange(count) for key in datas}
    without = [key for key, some in known.items() if some is None]
    if without:
        raise InputError(
            f"link: right-hand sides of some data sets have labels that are numbers, but not those of "
            f"{without}.",
            argument="link",
        )
    numbers = {key: some for key, some in known.items() if some is not None}
    for key, some in numbers.items():
        if np.unique(some).size < some.size:
            raise InputError(
                f"link: data set '{key}' has a label twice.", argument="link", name=key
            )
    labels = np.unique(np.concatenate(list(numbers.values())))
    return labels, {key: np.searchsorted(labels, some) for key, some in numbers.items()}


def _columns(
    own: Mapping[str, tuple[str, ...]], link: str | Sequence[str]
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]], set[str]]:
    """Names of all columns, where those of each data set stand among them, and which are linked."""
    known = dict.fromkeys(name for some in own.values() for name in some)
    linked = set(known) if link == "all" else asked_names("link", "coefficient", link, known)
    full = {key: [full_name(key, name, linked) for name in some] for key, some in own.items()}
    every = tuple(dict.fromkeys(name for some in full.values() for name in some))
    return every, {k: tuple(map(every.index, some)) for k, some in full.items()}, linked


def _absent(
    own: Mapping[str, tuple[str, ...]], places: Mapping[str, np.ndarray], linked: set[str]
) -> dict[str, np.ndarray]:
    """Of columns that no data set has at some labels, by full name, at which (k,)."""
    count = 1 + max(int(at.max()) for at in places.values())
    present: dict[str, np.ndarray] = {}
    for key, columns in own.items():
        for name in columns:
            full = full_name(key, name, linked)
            present.setdefault(full, np.zeros(count, bool))[places[key]] = True
    return {name: ~some for name, some in present.items() if not some.all()}


def _held_at_zero(
    bounds: Mapping[str, tuple], absent: Mapping[str, np.ndarray]
) -> dict[str, tuple]:
    """Bounds of coefficients with those at zero of which there are no data."""
    found = dict(bounds)
    for name, none in absent.items():
        given = [ends for pattern, ends in bounds.items() if fnmatch.fnmatchcase(name, pattern)]
        lower, upper = given[-1] if given else (-np.inf, np.inf)
        found[name] = np.where(none, 0.0, lower), np.where(none, 0.0, upper)
    return found


@dataclasses.dataclass(frozen=True)
class _Factors:
    """Scales as parameters by full name, and of every data set the name for each column, or ""."""

    params: dict[str, Param]
    of_sets: dict[str, list[str]]


def _scales(
    scale: Mapping[str, Scale] | None,
    keys: Sequence[str],
    columns: Mapping[str, tuple[str, ...]],
    linked: set[str],
) -> _Factors:
    params: dict[str, Param] = {}
    found = {key: [""] * len(columns[key]) for key in keys}
    for key, given in (scale or {}).items():
        if key not in keys:
            raise InputError(
                f"scale: no data set '{key}'. {suggestion(key, keys)}", argument="scale", name=key
            )
        whole = not isinstance(given, Mapping)
        for pattern, value in [("*", given)] if whole else list(given.items()):
            mine = [i for i, c in enumerate(columns[key]) if c in linked]
            mine = [i for i in mine if fnmatch.fnmatchcase(columns[key][i], pattern)]
            if not mine:
                raise InputError(
                    f"scale of '{key}': no linked coefficient matches '{pattern}'. "
                    f"{suggestion(pattern, [c for c in columns[key] if c in linked])}",
                    argument="scale",
                    name=key,
                )
            param = value if isinstance(value, Param) else Param(number("scale", value))
            if param.init is None:
                param = dataclasses.replace(param, init=1.0)
            for i in mine:
                name = f"{key}.scale" if whole else f"{key}.scale.{columns[key][i]}"
                params[name] = param
                found[key][i] = name
    for c in dict.fromkeys(c for some in columns.values() for c in some):
        having = [key for key in keys if c in columns[key]]
        moving = [
            name
            for key in having
            if (name := found[key][columns[key].index(c)]) and not params[name].fixed
        ]
        if having and c in linked and len(moving) == len(having):
            raise InputError(
                f"scale: '{c}' has a scale in every data set ({', '.join(moving)}), so that only their ratios "
                "have a meaning. Leave one of them out, or hold it: vp.Param(1.0, fixed=True).",
                argument="scale",
            )
    return _Factors(params, found)


def _below_each_other(
    datas: Mapping[str, Data],
    labels: np.ndarray | tuple[str, ...],
    places: Mapping[str, np.ndarray],
) -> Data:
    """The data sets as one, with weight zero where one has no right-hand side of a label."""
    k, some = len(labels), list(datas.values())
    real = some[0].real
    if any(data.whitener is not None for data in some):
        raise InputError("link: give sigma as standard deviations, not as a covariance.")
    whole = all(len(at) == k and (np.diff(at) == 1).all() for at in places.values())
    plain = all(data.weights is None for data in some)
    common = whole and all(data.weights is None or data.weights.ndim == 1 for data in some)
    y, weights, keep = [], [], []
    for key, data in datas.items():
        at, m = places[key], len(data.y)
        wide = np.zeros((m, k), data.y.dtype)
        wide[:, at] = data.y
        given = np.ones(m, real) if data.weights is None else data.weights
        used = data.keep
        if not common:
            full = np.zeros((m, k), real)
            full[:, at] = given if given.ndim == 2 else given[:, None]
            given, kept = full, np.zeros((m, k), bool)
            kept[:, at] = used if used.ndim == 2 else used[:, None]
            used = kept
        y.append(wide)
        weights.append(given)
        keep.append(used)
    first = some[0].names
    names = Names(rhs=first.rhs, y=first.y, y_unit=first.y_unit, rhs_unit=first.rhs_unit)
    numbered = isinstance(labels, np.ndarray) and first.columns is None
    names = dataclasses.replace(names, columns=None if numbered else labels)
    vector = all(data.vector for data in some)
    return Data(
        tuple(data.x for data in some),
        np.concatenate(y),
        None if plain and whole else np.concatenate(weights),
        np.concatenate(keep),
        some[0].absolute,
        vector,
        names=names,
    )


def _with_views(
    joint: FitResult, basis: Joined, datas: Mapping[str, Data], places: Mapping[str, np.ndarray]
) -> GlobalFit:
    """The fit of all, and what each data set sees of it."""
    rows, sets = 0, {}
    for d, (key, data) in enumerate(datas.items()):
        here = slice(rows, rows + len(data.y))
        sets[key] = view_of(joint, basis, d, here, data, places[key])
        rows += len(data.y)
    free = len(joint.layout.free)
    covariance = joint.covariance.reshape(-1, *joint.covariance.shape[-2:])[0, :free, :free]
    return GlobalFit(
        sets=sets,
        names=joint.names,
        alpha=joint.alpha,
        alpha_stderr=joint.alpha_stderr,
        at_bound=joint.at_bound,
        cov_names=joint.cov_names[:free],
        covariance=covariance,
        success=joint.success,
        status=joint.status,
        message=joint.message,
        stop=joint.stop,
        cost=joint.cost,
        start_costs=joint.start_costs,
        chisq=joint.chisq,
        num_data=joint.num_data,
        num_free=joint.num_free,
        dof=joint.dof,
        absolute_sigma=joint.absolute_sigma,
        num_steps=joint.num_steps,
        num_residuals=joint.num_residuals,
        num_jacobians=joint.num_jacobians,
        cond_jac=joint.cond_jac,
        params=joint.params,
        layout=joint.layout,
        costs=joint.costs,
        noise=joint.noise,
        joint=joint,
    )
