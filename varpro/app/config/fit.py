"""What `constraints:`, `fit:` and `compute:` may say."""

from typing import Annotated, Literal

import pydantic
from pydantic import BeforeValidator, Field

import varpro as vp

from .messages import wrong
from .scalars import (
    Number,
    NumberOrWord,
    Truth,
    Whole,
    Word,
    to_chains,
    to_relation,
    to_share,
    to_strength,
    to_strengths,
    to_truth_or_words,
    to_words,
)
from .section import Section


class Constraints(Section):
    """What parameters and coefficients may do; as the arguments of the same names of `varpro.fit`."""

    fix: Annotated[list[Word], BeforeValidator(to_words)] = []
    """Parameters, or patterns, that are held at their start."""
    tie: dict[Word, Word] = {}
    """{name: other}: the first takes the value of the other."""
    order: Annotated[
        list[Annotated[list[Word], Field(min_length=2)]], BeforeValidator(to_chains)
    ] = []
    """A chain of names that must increase, or several."""
    nonnegative: Annotated[bool | list[Word], BeforeValidator(to_truth_or_words)] = False
    """true for all coefficients, or names and patterns of columns."""
    bounds: dict[Word, Annotated[list[NumberOrWord], Field(min_length=2, max_length=2)]] = {}
    """{name: [lower, upper]} of parameters or coefficients; of curves with parameters of their own also names of arrays of the data file, maps of bounds."""
    real_coefficients: Truth = False
    """Coefficients of complex data are real, where phases are parameters (receiver)."""
    relations: dict[
        Word, Annotated[float | str | dict[str, float], BeforeValidator(to_relation)]
    ] = {}
    """{b: {a: 0.5}}: coefficient b is half of a; {b: a} equal to it; {b: 0} a number."""
    ridge: Annotated[float | str | dict[str, float | str] | None, BeforeValidator(to_strengths)] = (
        None
    )
    """A penalty on squares of coefficients: a number, gcv, or {pattern: number}."""
    smooth: dict[Word, Annotated[float | str, BeforeValidator(to_strength)]] = {}
    """A penalty on second differences of neighbouring columns: {pattern: number or gcv}."""


_SOLVER = vp.LevenbergMarquardt()


class Solver(Section):
    kind: Literal["lm"] = "lm"
    """lm: Levenberg-Marquardt."""
    jacobian: Literal["auto", "kaufman", "full"] = "auto"
    """Whether the Jacobian is that of Golub and Pereyra (full) or Kaufman's."""
    linear_solver: Literal["svd", "qr", "pivoted_qr"] = "svd"
    """How the coefficients are solved for; svd suits every rank."""
    ftol: Number = _SOLVER.ftol
    """Stop when chi-square can decrease by no more than this, relative."""
    xtol: Number = _SOLVER.xtol
    """Stop when no parameter changes by more than this, relative."""
    gtol: Number = _SOLVER.gtol
    """Stop when the cosine of residual and Jacobian is below this."""
    max_steps: Whole = 256
    """Trial points at most."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Solver":
        for name in ("ftol", "xtol", "gtol"):
            if not 0 <= getattr(self, name) < 1:
                raise wrong(f"{name} must lie between 0 and 1, not be {getattr(self, name):g}.")
        if self.max_steps < 1:
            raise wrong(f"max_steps must be at least 1, not {self.max_steps}.")
        return self


class Fit(Section):
    share: Annotated[str | list[Word], BeforeValidator(to_share)] = "all"
    """all: one set of nonlinear parameters for everything; none: every curve of an image or table, or every data set, has its own; or names and patterns of what they share."""
    starts: Whole = 1
    """How many starts to try; the fit of least cost is kept."""
    seed: Whole = 0
    """Of the starting points."""
    start: Literal["mean", "global", "binned", "neighbours"] = "mean"
    """Where each curve with parameters of its own begins: given or found starts, a fit of the mean curve, fits of bins, or also where its neighbours ended."""
    init: dict[Word, Word] = {}
    """{name: array}: starts of such curves, maps in the data file; constraints.fix holds a parameter at its map."""
    binning: Annotated[Whole, Field(ge=1)] = 8
    """Neighbours in a bin, along every axis."""
    block: Annotated[Whole, Field(ge=1)] | None = None
    """Curves that are fitted and kept together with share: none; by default some thousands."""
    compress: Truth | None = None
    """Search with compressed right-hand sides; by default where that pays."""
    absolute_sigma: Truth = False
    """Take sigma as it is (true), or up to a common factor."""
    noise: Literal["normal", "poisson", "huber", "soft_l1", "cauchy"] = "normal"
    """normal: least squares; poisson: likelihood of counts; the others forgive outliers."""
    loss_scale: Number = 1.0
    """The residual, in sigma, from which on those see an outlier."""
    solver: Solver = Solver()
    """The search."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Fit":
        if self.starts < 1:
            raise wrong(f"starts must be at least 1, not {self.starts}.")
        return self


class Compute(Section):
    """Where the blocks of share: none are fitted."""

    engine: Literal["local", "dask"] = "local"
    """local: threads of this process; dask: a cluster."""
    scheduler: Word | None = None
    """The address of its scheduler; without one a cluster of processes on this machine."""
    workers: Annotated[Whole, Field(ge=1)] | None = None
    """Threads, or processes; as many as there are cores by default."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Compute":
        if self.scheduler is not None and self.engine != "dask":
            raise wrong("a scheduler needs 'engine: dask'.")
        return self
