"""What `constraints:`, `fit:` and `compute:` may say."""

from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

import varpro as vp

from .messages import nearest, wrong
from .model import Parameter
from .scalars import (
    Number,
    NumberOrWord,
    OneOrMore,
    Seed,
    Truth,
    Word,
    to_chains,
    to_count,
    to_intervals,
    to_loss_scale,
    to_relation,
    to_share,
    to_strength,
    to_strengths,
    to_truth_or_words,
)
from .section import Section

_Strength = Annotated[float, Field(gt=0)] | Literal["gcv"]


_Relation = float | str | dict[str, float]


def _ordered(pairs: list[list[float]]) -> list[list[float]]:
    if any(not low <= high for low, high in pairs):
        raise wrong("an interval goes from low to high.")
    return pairs


_Intervals = Annotated[
    list[Annotated[list[Number], Field(min_length=2, max_length=2)]],
    BeforeValidator(
        to_intervals, json_schema_input_type=list[float] | list[Annotated[list[float], Field()]]
    ),
    AfterValidator(_ordered),
]


class Somewhere(Section):
    """A relation for some right-hand sides."""

    within: _Intervals
    """[low, high] of their wavelengths, or whatever numbers they are labelled with; or several of these."""
    relation: Annotated[
        float | str | dict[str, float],
        BeforeValidator(to_relation, json_schema_input_type=_Relation),
    ]
    """What holds there: {a: 0.5}, a, or a number."""


class EqualArea(Section):
    """A penalty that draws the areas of two spectra together: weight^2 (area of the first - ratio * area of the second)^2 is added to chi-square."""

    first: Word
    """A coefficient, summed over right-hand sides."""
    second: Word
    """The other one."""
    weight: Annotated[float, Field(gt=0)]
    """How much the penalty counts: one over the standard deviation that the difference may have."""
    ratio: Number = 1.0
    """Of the area of the first to that of the second."""
    within: _Intervals | None = None
    """[low, high] of the wavelengths, or whatever numbers right-hand sides are labelled with, over which the first is summed; or several of these; all by default."""
    second_within: _Intervals | None = None
    """Those of the second; as within by default."""


def _where_it_holds(value: object) -> str:
    there = isinstance(value, Somewhere) or (isinstance(value, dict) and "within" in value)
    return "somewhere" if there else "everywhere"


class Constraints(Section):
    """What parameters and coefficients may do; as the arguments of the same names of `varpro.fit`."""

    fix: Annotated[list[Word], OneOrMore] = []
    """Parameters, or patterns, that are held at their start."""
    tie: dict[Word, Word] = {}
    """{name: other}: the first takes the value of the other, or of an expression such as 2 * a.center - b.center."""
    order: Annotated[
        list[Annotated[list[Word], Field(min_length=2)]],
        BeforeValidator(to_chains, json_schema_input_type=list[str] | list[list[str]]),
    ] = []
    """A chain of names that must increase, or several."""
    inequalities: Annotated[list[Word], OneOrMore] = []
    """What parameters must keep, linear in them: a.tau + b.tau <= 10, or 1 <= b.center - a.center <= 5."""
    nonnegative: Annotated[
        bool | list[Word],
        BeforeValidator(to_truth_or_words, json_schema_input_type=bool | str | list[str]),
    ] = False
    """true for all coefficients, or names and patterns of columns."""
    bounds: dict[Word, Annotated[list[NumberOrWord], Field(min_length=2, max_length=2)]] = {}
    """{name: [lower, upper]} of parameters or coefficients; of curves with parameters of their own also names of arrays of the data file, maps of bounds."""
    real_coefficients: Truth = False
    """Coefficients of complex data are real, where phases are parameters (receiver)."""
    relations: dict[
        Word,
        Annotated[
            Annotated[Somewhere, Tag("somewhere")]
            | Annotated[
                _Relation,
                BeforeValidator(to_relation, json_schema_input_type=_Relation),
                Tag("everywhere"),
            ],
            Discriminator(_where_it_holds),
        ],
    ] = {}
    """{b: {a: 0.5}}: coefficient b is half of a; {b: a} equal to it; {b: 0} a number; {b: {within: [600, 700], relation: 0}} one of these for some right-hand sides."""
    ridge: Annotated[
        float | str | dict[str, float | str] | None,
        BeforeValidator(
            to_strengths, json_schema_input_type=_Strength | dict[str, _Strength] | None
        ),
    ] = None
    """A penalty on squares of coefficients: a number, gcv, or {pattern: number}."""
    smooth: dict[
        Word, Annotated[float | str, BeforeValidator(to_strength, json_schema_input_type=_Strength)]
    ] = {}
    """A penalty on second differences of neighbouring columns: {pattern: number or gcv}."""
    equal_areas: list[EqualArea] = []
    """Penalties that draw the areas of spectra together: [{first: a, second: b, weight: 10}]."""


_SOLVER = vp.LevenbergMarquardt()
# Solvers by name, of the packages that have them. Those of optax take a learning rate.
NAMES: dict[str, tuple[str, ...]] = {
    "optax": (
        *("adabelief", "adadelta", "adagrad", "adam", "adamax", "adamw", "amsgrad", "lamb", "lion"),
        *("nadam", "novograd", "radam", "rmsprop", "sgd", "yogi"),
    ),
    "optimistix": (
        *("BFGS", "DFP", "Dogleg", "GaussNewton", "GradientDescent", "IndirectLevenbergMarquardt"),
        *("LBFGS", "LevenbergMarquardt", "NelderMead", "NonlinearCG"),
    ),
}
# Keys of a solver by the kinds that know them; the other keys are for all.
_KEYS = {
    **{name: ("lm",) for name in ("ftol", "xtol", "gtol")},
    **{
        name: ("optax", "optimistix") for name in ("name", "learning_rate", "steps", "rtol", "atol")
    },
}


class Solver(Section):
    kind: Literal["lm", "optax", "optimistix"] = "lm"
    """lm: Levenberg-Marquardt of varpro; optax, optimistix: the one of that package that name says, which know no bounds."""
    name: Word | None = None
    """Such as adam of optax, BFGS of optimistix."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Size of the steps of optax, and of GradientDescent; in the units of the parameters."""
    steps: Annotated[int, to_count(10_000_000)] | None = None
    """How many of these at most; 10,000 of optax, 256 of optimistix by default."""
    rtol: Number | None = None
    """Stop when cost and parameters change by less than this, relative; 1e-8 by default."""
    atol: Number | None = None
    """The same, absolute; 1e-8 by default."""
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
    max_steps: Annotated[int, to_count(1_000_000)] = 256
    """Trial points at most, of lm."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Solver":
        for name in ("ftol", "xtol", "gtol", "rtol", "atol"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise wrong(f"{name} must lie between 0 and 1, not be {value:g}.")
        keys = _KEYS | {"max_steps": ("lm",)}
        for key, kinds in keys.items():
            given = getattr(self, key) != type(self).model_fields[key].default
            if given and self.kind not in kinds:
                hint = "Say steps." if key == "max_steps" else "Leave it out."
                raise wrong(f"{key} is for kind {' or '.join(kinds)}, not for {self.kind}. {hint}")
        if self.kind == "lm":
            return self
        known = NAMES[self.kind]
        if self.name is None:
            raise wrong(f"kind {self.kind} needs a name. Known: {', '.join(known)}.")
        if self.name not in known:
            same = [one for one in known if one.lower() == self.name.lower()]
            hint = nearest(same[0] if same else self.name, known)
            raise wrong(f"{self.kind} has no solver '{self.name}' here. {hint}")
        takes_rate = self.kind == "optax" or self.name == "GradientDescent"
        if takes_rate and self.learning_rate is None:
            raise wrong(f"{self.name} needs a learning_rate, such as 0.01.")
        if not takes_rate and self.learning_rate is not None:
            raise wrong(
                f"{self.name} finds the size of its steps by itself. Leave learning_rate out."
            )
        return self


class Fit(Section):
    share: Annotated[
        str | list[Word], BeforeValidator(to_share, json_schema_input_type=str | list[str])
    ] = "all"
    """all: one set of nonlinear parameters for everything; none: every curve of an image or table, or every data set, has its own; or names and patterns of what they share."""
    link: Annotated[list[Word], OneOrMore] = []
    """Of several data sets, coefficients that are the same in all: all, or names and patterns."""
    scale: dict[Word, Parameter | dict[Word, Parameter]] = {}
    """{dataset: start}: by which factor linked coefficients of a data set differ from those of the others; or {dataset: {coefficient: start}}."""
    starts: Annotated[int, to_count(100_000)] = 1
    """How many starts to try; the fit of least cost is kept."""
    seed: Seed = 0
    """Of the starting points."""
    start: Literal["mean", "global", "binned", "neighbours"] = "mean"
    """Where each curve with parameters of its own begins: given or found starts, a fit of the mean curve, fits of bins, or also where its neighbours ended."""
    init: dict[Word, Word] = {}
    """{name: array}: starts of such curves, maps in the data file; constraints.fix holds a parameter at its map."""
    binning: Annotated[int, to_count(100_000)] = 8
    """Neighbours in a bin, along every axis."""
    block: Annotated[int, to_count(100_000_000)] | None = None
    """Curves that are fitted and kept together with share: none; by default some thousands."""
    compress: Truth | None = None
    """Search with compressed right-hand sides; by default where that pays."""
    absolute_sigma: Truth = False
    """Take sigma as it is (true), or up to a common factor."""
    noise: Literal["normal", "poisson", "huber", "soft_l1", "cauchy"] = "normal"
    """normal: least squares; poisson: likelihood of counts; the others forgive outliers."""
    loss_scale: Annotated[
        float, BeforeValidator(to_loss_scale, json_schema_input_type=Annotated[float, Field(gt=0)])
    ] = 1.0
    """The residual, in sigma, from which on those see an outlier."""
    solver: Solver = Solver()
    """The search."""


class Compute(Section):
    """Where the blocks of share: none are fitted."""

    engine: Literal["local", "dask"] = "local"
    """local: threads of this process; dask: a cluster, of processes on this machine or the one that --scheduler names."""
    workers: Annotated[int, to_count(10_000)] | None = None
    """Threads, or processes of the cluster on this machine; as many as there are cores by default."""
