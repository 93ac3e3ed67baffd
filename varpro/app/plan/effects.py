"""Keys of a configuration that would be read and change nothing: each is refused, since whoever wrote it
meant something by it.

A finished run writes its configuration with all defaults filled in, so what equals its default is no
such key.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..config.config import Output
from ..config.document import Key
from ..config.fit import Compute, Fit, Solver
from ..config.messages import complain
from ..data.kinds import is_table

if TYPE_CHECKING:
    from .plan import Plan


# Keys of how a table is written, with what says nothing.
_OF_TABLES = {"delimiter": "auto", "transpose": False} | dict.fromkeys(
    (
        "skip",
        "comment",
        "header",
        "units_row",
        "footer",
        "decimal",
        "thousands",
        "encoding",
        "sheet",
    )
)


def without_effect(plan: "Plan") -> Iterator[str]:
    """A line for each key that has no effect, with what would give it one."""
    for found in (_of_data, _of_model, _of_fit):
        for key, message in found(plan):
            yield complain(plan.document, key, f"has no effect: {message}")


def _of_data(plan: "Plan") -> Iterator[tuple[Key, str]]:
    for name, section in plan.config.sections.items():
        key: Key = ("datasets", name) if name else ("data",)
        if not is_table(plan.folder / section.path):
            for word, nothing in _OF_TABLES.items():
                if getattr(section, word) != nothing:
                    yield (*key, word), "it is for tables; this is a file of arrays. Leave it out."
        if section.origin != 0 and section.spacing is None:
            yield (*key, "origin"), "it is the first x where spacing gives the others."
    if plan.config.constraints.real_coefficients:
        given = (plan.source or data.y for data in plan.sets.values())
        if not any(np.dtype(one.dtype).kind == "c" for one in given):
            yield ("constraints", "real_coefficients"), "the data are real. Leave it out."


def _of_model(plan: "Plan") -> Iterator[tuple[Key, str]]:
    config = plan.config
    used = set(config.model)
    if config.datasets and all(section.model for section in config.datasets.values()):
        used = {name for section in config.datasets.values() for name in section.model or ()}
    for name in config.model:
        if name not in used:
            yield ("model", name), "no data set has this component. Name it under datasets."
    for name in config.responses:
        components = [config.model[used_name] for used_name in sorted(used & set(config.model))]
        if not any(
            name in (getattr(c, key, None) for key in ("irf", "receiver", "loss"))
            for c in components
        ):
            yield ("responses", name), f"no component says 'irf: {name}' (or receiver, or loss)."


def _of_fit(plan: "Plan") -> Iterator[tuple[Key, str]]:
    config, fit = plan.config, plan.config.fit
    plain, solver = Fit(), Solver()
    if config.each:
        for name in ("kind", "jacobian", "linear_solver", "xtol", "gtol"):
            if getattr(fit.solver, name) != getattr(solver, name):
                yield (
                    ("fit", "solver", name),
                    "curves with parameters of their own have one search, ftol and max_steps alone.",
                )
        if config.constraints.equal_areas:
            same = "it is for right-hand sides that share all parameters."
            yield ("constraints", "equal_areas"), same
        if fit.compress is not None:
            yield ("fit", "compress"), "it is for right-hand sides that share all parameters."
    else:
        each = "it is for curves with parameters of their own ('share: none')."
        for name in ("start", "binning", "block"):
            if getattr(fit, name) != getattr(plain, name):
                yield ("fit", name), each
        for name in Compute.model_fields:
            if getattr(config.compute, name) != getattr(Compute(), name):
                yield ("compute", name), each
        if config.output.maps != Output.model_fields["maps"].default:
            yield ("output", "maps"), each
    if config.each and fit.binning != plain.binning and fit.start != "binned":
        yield ("fit", "binning"), f"'start: {fit.start}' makes no bins."
    if fit.loss_scale != plain.loss_scale and fit.noise in ("normal", "poisson"):
        yield ("fit", "loss_scale"), f"'noise: {fit.noise}' knows no outliers."
