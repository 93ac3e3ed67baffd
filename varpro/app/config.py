"""What a configuration file may say, as pydantic models, and what is said about a wrong one.

The kinds of component and their keys come from the bases themselves (`varpro.basis.KINDS`), so a new
basis is a new kind without a line here.
"""

import dataclasses
import difflib
import functools
import math
import operator
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import ErrorDetails, PydanticCustomError

import varpro as vp

from .loader import Document, Key, Plain, in_one_line

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)")
_NAME = re.compile(r"[^\s.*?\[\]]+")


def nearest(word: str, known: Iterable[str]) -> str:
    """The sentence after an unknown word: the nearest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"Did you mean '{close[0]}'?"
    more = ", ..." if len(known) > 12 else ""
    return f"Known: {', '.join(known[:12])}{more}." if known else "There are none here."


def wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{message}", {"message": message})


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "keys"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else f"'{in_one_line(str(value))}'"


def _number(value: object) -> object:
    if isinstance(value, Plain) and _FLOAT.fullmatch(value):
        return float(value.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise wrong(f"expected a number, not {_shown(value)}.")


def _whole(value: object) -> object:
    if isinstance(value, Plain) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise wrong(f"expected a whole number, not {_shown(value)}.")


def _truth(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, Plain) and value in ("true", "True", "false", "False"):
        return value in ("true", "True")
    raise wrong(f"expected true or false, not {_shown(value)}.")


def _word(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return str(value)
    raise wrong(f"expected a word, not {_shown(value)}.")


def _words(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _word_or_number(value: object) -> object:
    if isinstance(value, Plain) and _FLOAT.fullmatch(value):
        return _number(value)
    return _word(value) if isinstance(value, str) else _number(value)


def _chains(value: object) -> object:
    flat = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    return [value] if flat else value


def _share(value: object) -> object:
    if isinstance(value, str) and value in ("all", "none"):
        return str(value)
    if isinstance(value, str):
        return [_word(value)]
    return value


def _truth_or_words(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, Plain) and value.lower() in ("true", "false")):
        return _truth(value)
    return [_word(one) for one in value] if isinstance(value, list) else [_word(value)]


def _relation(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _number(factor) for name, factor in value.items()}
    return _word_or_number(value)


def _strength(value: object) -> object:
    if value == "gcv":
        return "gcv"
    found = _number(value)
    if not (isinstance(found, float) and 0 < found < math.inf):
        raise wrong(f"expected a positive number or gcv, not {_shown(value)}.")
    return found


def _strengths(value: object) -> object:
    if isinstance(value, dict):
        return {str(pattern): _strength(one) for pattern, one in value.items()}
    return None if value is None else _strength(value)


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Truth = Annotated[bool, BeforeValidator(_truth)]
Word = Annotated[str, BeforeValidator(_word)]
Words = Annotated[list[Word], BeforeValidator(_words), Field(min_length=1)]
Delimiter = Literal["auto", "comma", "semicolon", "tab", "space"]
SCALARS: dict[object, Any] = {float: Number, int: Whole, bool: Truth, str: Word}


class Section(pydantic.BaseModel):
    """A mapping that knows its keys and no others."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _remember_keys(cls, data: Any, info: Any) -> Any:
        # An error says where it happened but not which keys would have been right there.
        if isinstance(data, dict) and info.context is not None:
            info.context[id(data)] = [f.alias or n for n, f in cls.model_fields.items()]
        return data


class Parameter(Section):
    """A nonlinear parameter: a number, which is its start, or the keys below."""

    init: Number | None = None
    """The start; left out, it is found in the data where the kind of component can."""
    lower: Number | None = None
    """Lower bound; none by default."""
    upper: Number | None = None
    """Upper bound; none by default."""
    fixed: Truth = False
    """Hold it at its start."""
    prior: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    """[mean, standard deviation] of what is known from elsewhere."""
    unit: Word | None = None
    """Its unit in reports; derived from that of x by default."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_number(cls, data: Any) -> Any:
        if data is None:
            raise wrong("expected a start or keys such as init, not nothing.")
        return data if isinstance(data, dict | Parameter) else {"init": data}

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Parameter":
        lower = -math.inf if self.lower is None else self.lower
        upper = math.inf if self.upper is None else self.upper
        if not lower < upper:
            raise wrong(f"lower = {lower:g} must be below upper = {upper:g}.")
        if self.init is not None and not math.isfinite(self.init):
            raise wrong("init must be finite.")
        if self.init is not None and not lower <= self.init <= upper:
            raise wrong(f"init = {self.init:g} lies outside its bounds [{lower:g}, {upper:g}].")
        if self.prior is not None and not self.prior[1] > 0:
            raise wrong("prior is [mean, standard deviation], and the second must be positive.")
        return self

    def given(self) -> vp.Param | float | None:
        """What the basis gets: a number where nothing but a number was said."""
        return self.init if self == Parameter(init=self.init, unit=self.unit) else self.param()

    def param(self) -> vp.Param:
        return vp.Param(
            self.init,
            lower=-math.inf if self.lower is None else self.lower,
            upper=math.inf if self.upper is None else self.upper,
            fixed=self.fixed,
            prior=None if self.prior is None else (self.prior[0], self.prior[1]),
        )


class Component(Section):
    """One term of the model. Subclasses are made from the bases below."""

    kind: str

    # The key below which parameters are, if their names are the user's.
    below: ClassVar[str | None] = None

    def units(self) -> dict[str, str]:
        """The units that the user gave to parameters, by local name."""
        given = {key: getattr(self, key) for key in type(self).model_fields}
        given |= given[self.below] if self.below else {}
        return {k: p.unit for k, p in given.items() if isinstance(p, Parameter) and p.unit}


class BasisComponent(Component):
    basis: ClassVar[type]

    def build(self, name: str, responses: Mapping[str, Any] | None = None) -> Any:
        """The basis; a response or receiver that it names is looked up among `responses`."""
        keys = {k: getattr(self, k) for k in type(self).model_fields if k != "kind"}
        given: dict[str, Any] = {
            k: v.given() if isinstance(v, Parameter) else v for k, v in keys.items()
        }
        if self.below:
            given[self.below] = {k: v.param() for k, v in given[self.below].items()}
        for key, (kind, what) in _SHARED.items():
            if given.get(key) is None:
                continue
            known = {k: one for k, one in (responses or {}).items() if isinstance(one, kind)}
            if given[key] not in known:
                raise vp.InputError(
                    f"{key}: no {what} '{given[key]}'. {nearest(given[key], known)}"
                )
            given[key] = known[given[key]]
        return self.basis(name, **given)


# What components name and share, by the key under which they do.
_SHARED: dict[str, tuple[type, str]] = {
    "irf": (vp.basis.AbstractResponse, "response"),
    "receiver": (vp.Receiver, "receiver"),
}


class CustomComponent(Component):
    """A function of the user's, found by its import path; modules in `folder` come first."""

    kind: Literal["custom"]
    function: Word
    folder: Word = "."
    parameters: dict[Word, Parameter] = {}
    columns: list[Word] | None = None
    unit: Word | None = None  # of the coefficients
    below: ClassVar[str | None] = "parameters"

    @pydantic.field_validator("function")
    @classmethod
    def _check_path(cls, value: str) -> str:
        module, _, name = value.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), name)):
            raise wrong(f"expected module:function, such as my_module:damped, not '{value}'.")
        return value


def _is_parameter(hint: object) -> bool:
    return vp.Param in (hint, *typing.get_args(hint))


def _is_response(hint: object) -> bool:
    members = typing.get_args(hint)
    return any(isinstance(one, type) and issubclass(one, vp.basis.Shared) for one in members)


def _component(kind: str, basis: type, default: Any = ...) -> type[Component]:
    """The section for a basis: its parameters, and its settings with their defaults."""
    if kind == "custom":
        return CustomComponent
    hints = typing.get_type_hints(basis)
    fields: dict[str, Any] = {"kind": (Literal[kind], default)}
    below = None
    for field in dataclasses.fields(basis):
        hint = hints[field.name]
        required = field.default is dataclasses.MISSING
        if field.name == "name" or not field.init:
            continue
        if _is_parameter(hint):
            fields[field.name] = (Parameter | None, None)
        elif hint == vp.basis.Params:
            below = field.name
            fields[below] = (Annotated[dict[Word, Parameter], Field(min_length=1)], ...)
        elif hint == vp.basis.Amounts:
            fields[field.name] = (dict[Word, Number], {})
        elif hint == vp.basis.Knots:
            fields[field.name] = (list[Number] | None, None)
        elif _is_response(hint):
            fields[field.name] = (Annotated[str | None, BeforeValidator(_word)], None)
        elif hint in SCALARS:
            fields[field.name] = (SCALARS[hint], ... if required else field.default)
    made = pydantic.create_model(f"{kind.title()}Component", __base__=BasisComponent, **fields)
    made.basis, made.below = basis, below
    return made


class MeasuredResponse(Component):
    """A response whose samples are two columns of a file."""

    kind: Literal["measured"]
    path: Word
    """The file; a relative path is seen from the configuration."""
    x: Word
    """The column of sample positions, uniform and ascending."""
    y: Word
    """The column of what was measured."""
    delimiter: Delimiter = "auto"
    """How a table of text is cut into fields."""
    shift: Parameter | None = None
    """How far it is moved towards larger x; not at all by default."""
    background: Annotated[float | Literal["estimate"], BeforeValidator(_word_or_number)] = 0.0
    """What is subtracted from y: a number, or estimate."""
    period: Parameter | None = None
    """Time between excitations, held."""


def _kind_of_response(data: Any) -> str:
    return data.get("kind", "gaussian") if isinstance(data, dict) else getattr(data, "kind", "")


RESPONSES = {
    "gaussian": _component("gaussian", vp.GaussianIRF, "gaussian"),
    "measured": MeasuredResponse,
    "receiver": _component("receiver", vp.Receiver),
}
Response = Annotated[
    functools.reduce(
        operator.or_, [Annotated[section, Tag(kind)] for kind, section in RESPONSES.items()]
    ),
    Discriminator(_kind_of_response),
]
COMPONENTS = {kind: _component(kind, basis) for kind, basis in vp.basis.KINDS.items()}
AnyComponent = Annotated[
    functools.reduce(operator.or_, COMPONENTS.values()), Field(discriminator="kind")
]


class Units(Section):
    x: Word | None = None
    """Of x; by default what the file says."""
    y: Word | None = None
    """Of y; by default what the file says."""


class Data(Section):
    """Which columns of which file are fitted."""

    path: Word
    """The data file; a relative path is seen from the configuration."""
    x: Word
    """The column or array of sample positions."""
    y: Words = []
    """One or more columns, or patterns such as "4*"; or an array on the axis of x and one more."""
    imag: Annotated[list[Word], BeforeValidator(_words)] = []
    """Imaginary parts, one column, pattern or array for each of y, which are then the real parts; arrays of complex numbers need none."""
    variable: Word | None = None
    """The array of curves of an image or a cube, on any axes; another word for y."""
    dims: Words | None = None
    """Names of the axes of that array, in order, where the file has none."""
    spacing: Number | None = None
    """The step of x along that array, where the file has no positions; the first is origin."""
    origin: Number = 0.0
    """The first position along x, if spacing is given."""
    sigma: Annotated[str | float | None, BeforeValidator(_word_or_number)] = None
    """Standard deviations: a column or array, a number, or poisson for the root of the counts."""
    weights: Word | None = None
    """A column or array that multiplies the residual."""
    delimiter: Delimiter = "auto"
    """How a table of text is cut into fields."""
    units: Units = Units()
    """Units of x and y."""
    where: dict[Word, Word] = {}
    """Rows of a table to use, by the text in a column: {sample: A}."""
    select: dict[Word, Number | Annotated[list[Number], Field(min_length=2, max_length=2)]] = {}
    """Parts of axes of arrays to use: {wavelength: [400, 500]}."""
    mask: Word | None = None
    """An array of true or false, true for what to use."""
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    """[lowest x, highest x] to use."""
    nan: Literal["raise", "drop"] = "raise"
    """raise, or drop values that are not finite."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Data":
        if self.sigma is not None and self.weights is not None:
            raise wrong("give sigma or weights, not both.")
        if isinstance(self.sigma, float) and not 0 < self.sigma < math.inf:
            raise wrong(f"sigma must be positive and finite, not {self.sigma:g}.")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise wrong("range is [lowest x, highest x].")
        if self.variable is not None and self.y:
            raise wrong("give y or variable, not both.")
        if self.imag and len(self.imag) != max(len(self.y), 1):
            raise wrong(f"imag has {len(self.imag)} names, but there are {len(self.y)} real parts.")
        return self


class Dataset(Data):
    """One of several data sets, with the components of the model that it has; all by default."""

    model: Words | None = None
    """Components of the model that this data set has; all by default."""


class Constraints(Section):
    """What parameters and coefficients may do; as the arguments of the same names of `varpro.fit`."""

    fix: Annotated[list[Word], BeforeValidator(_words)] = []
    """Parameters, or patterns, that are held at their start."""
    tie: dict[Word, Word] = {}
    """{name: other}: the first takes the value of the other."""
    order: Annotated[
        list[Annotated[list[Word], Field(min_length=2)]], BeforeValidator(_chains)
    ] = []
    """A chain of names that must increase, or several."""
    nonnegative: Annotated[bool | list[Word], BeforeValidator(_truth_or_words)] = False
    """true for all coefficients, or names and patterns of columns."""
    bounds: dict[Word, Annotated[list[Number], Field(min_length=2, max_length=2)]] = {}
    """{name: [lower, upper]} of parameters or coefficients."""
    real_coefficients: Truth = False
    """Coefficients of complex data are real, where phases are parameters (receiver)."""
    relations: dict[
        Word, Annotated[float | str | dict[str, float], BeforeValidator(_relation)]
    ] = {}
    """{b: {a: 0.5}}: coefficient b is half of a; {b: a} equal to it; {b: 0} a number."""
    ridge: Annotated[float | str | dict[str, float | str] | None, BeforeValidator(_strengths)] = (
        None
    )
    """A penalty on squares of coefficients: a number, gcv, or {pattern: number}."""
    smooth: dict[Word, Annotated[float | str, BeforeValidator(_strength)]] = {}
    """A penalty on second differences of neighbouring columns: {pattern: number or gcv}."""


_SOLVER = vp.LevenbergMarquardt()  # pyright: ignore[reportCallIssue]


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
    share: Annotated[str | list[Word], BeforeValidator(_share)] = "all"
    """all: one set of nonlinear parameters for everything; of several data sets also none, or names and patterns of what they share."""
    starts: Whole = 1
    """How many starts to try; the fit of least cost is kept."""
    seed: Whole = 0
    """Of the starting points."""
    start: Literal["mean", "global", "binned"] = "mean"
    """Where each curve of share: none begins: given or found starts, a fit of the mean curve, or fits of bins."""
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


Panel = Literal["fit", "components", "residuals"]


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


class Output(Section):
    dir: Word
    """The run folder, seen from the configuration; runs/NAME by default."""
    maps: Literal["nc", "zarr"] = "nc"
    """The format of the maps of share: none, result.nc or result.zarr."""
    report: Literal["html", "none"] = "html"
    """Whether to write report.html."""
    plots: list[Panel] = ["fit", "components", "residuals"]
    """The panels of figures."""


class Config(Section):
    """A whole configuration file."""

    schema_version: Annotated[Literal[1], BeforeValidator(_whole)] = Field(1, alias="schema")
    """The version of this format."""
    title: Word | None = None
    """The heading of the report; by default the name of the file."""
    data: Data | None = None
    """The data, of one data set; or"""
    datasets: dict[Word, Dataset] = {}
    """several data sets by name, each with the keys of data."""
    responses: dict[Word, Response] = {}  # pyright: ignore[reportInvalidTypeForm]
    """Instrument responses by name, which components take as irf; and receivers, taken as receiver."""
    model: Annotated[dict[Word, AnyComponent], Field(min_length=1)]
    """The components by name, each with its kind."""
    parameters: Word | None = None
    """A table (CSV) of name, init, lower, upper, fixed; what it says holds."""
    constraints: Constraints = Constraints()
    """Rules for parameters and coefficients."""
    fit: Fit = Fit()
    """How to fit."""
    compute: Compute = Compute()
    """Where to fit many curves."""
    output: Output
    """What to write, and where."""

    @pydantic.model_validator(mode="after")
    def _check_data(self) -> "Config":
        if (self.data is None) == (not self.datasets):
            raise wrong("give either data, for one data set, or datasets, for several by name.")
        if self.data is not None and self.fit.share not in ("all", "none"):
            raise wrong("fit.share: patterns of names are for several data sets.")
        if self.each and self.fit.starts > 1:
            raise wrong("fit.starts: every curve of share: none has one start.")
        return self

    @property
    def each(self) -> bool:
        """Whether every curve of the one data set has parameters of its own."""
        return self.data is not None and self.fit.share == "none"

    @property
    def sections(self) -> dict[str, Data]:
        """What is fitted, by name; the name of a single data set is empty."""
        return {"": self.data} if self.data is not None else dict(self.datasets)

    @pydantic.field_validator("model", "responses", "datasets")
    @classmethod
    def _check_names(cls, model: dict[str, Any]) -> dict[str, Any]:
        for name in model:
            if not _NAME.fullmatch(name):
                raise wrong(f"the name '{name}' has a dot, a blank, or one of * ? [ ] in it.")
        return model


def parse(document: Document, default_dir: str) -> Config:
    """Check a loaded file; every problem found is one line of the one exception."""
    tree = dict(document.tree)
    output = tree.get("output") or {}
    if isinstance(output, dict):
        tree["output"] = {"dir": default_dir, **output}
    known: dict[int, list[str]] = {}
    try:
        return Config.model_validate(tree, context=known)
    except pydantic.ValidationError as error:
        lines = [_sentence(document, detail, tree, known) for detail in error.errors()]
    raise vp.InputError("\n".join(dict.fromkeys(lines)))


def complain(document: Document, key: Key, message: str) -> str:
    """One problem in one line, as every problem of a configuration is told."""
    return " ".join(f"{document.where(key)}: {message}".split())


def _sentence(
    document: Document, detail: ErrorDetails, tree: dict[str, Any], known: dict[int, list[str]]
) -> str:
    # A location also names the members of unions it went through; only what is in the file counts.
    key: list[str | int] = []
    node: Any = tree
    parent: Any = None
    part: Any
    for part in detail["loc"]:
        inside = isinstance(node, dict) and part in node
        if inside or (isinstance(node, list) and isinstance(part, int)):
            key.append(part)
            parent, node = node, node[part]
    kind, value = detail["type"], detail["input"]
    context = detail.get("ctx", {})
    if kind == "missing":
        key.append(detail["loc"][-1])
        message = "this key is required."
    elif kind == "extra_forbidden":
        # The output section may be there without having been written.
        given = document.tree if parent is tree else parent
        others = [name for name in known.get(id(parent), []) if name not in given]
        message = f"unknown key. {nearest(str(key[-1]), others)}"
    elif kind == "union_tag_not_found":
        message = f"needs a kind. Known: {', '.join(COMPONENTS)}."
    elif kind == "union_tag_invalid":
        kinds = RESPONSES if key[0] == "responses" else COMPONENTS
        key.append("kind")
        message = f"unknown kind '{context['tag']}'. {nearest(context['tag'], kinds)}"
    elif kind == "literal_error":
        message = f"expected {context['expected']}, not {_shown(value)}."
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        message = f"expected keys below it, not {_shown(value)}."
    elif kind == "list_type":
        message = f"expected a list, not {_shown(value)}."
    elif kind in ("too_short", "too_long"):
        few = kind == "too_short"
        count = context["min_length" if few else "max_length"]
        bound = f"at {'least' if few else 'most'} {count}"
        message = f"expected {bound} entr{'y' if count == 1 else 'ies'}, found {len(value)}."
    else:
        message = detail["msg"].rstrip(".") + "."
    return complain(document, tuple(key), message)
