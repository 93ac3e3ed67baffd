"""What `model:` and `responses:` may say.

The kinds of component and their keys come from the bases themselves (`varpro.basis.KINDS`), so a new
basis is a new kind without a line here.
"""

import dataclasses
import functools
import math
import operator
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import BeforeValidator, Discriminator, Field, Tag

import varpro as vp

from .messages import nearest, wrong
from .scalars import SCALARS, Delimiter, Number, Truth, Word, to_word, to_word_or_number
from .section import Section


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

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        keys = handler.resolve_ref_schema(handler(schema))
        return keys | {"type": ["number", "object"]}

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
        arguments = {key: getattr(self, key) for key in type(self).model_fields}
        arguments |= arguments[self.below] if self.below else {}
        for key, several in [*arguments.items()]:
            if isinstance(several, list):
                arguments |= {f"{key}{i}": one for i, one in enumerate(several, 1)}
        return {k: p.unit for k, p in arguments.items() if isinstance(p, Parameter) and p.unit}


class BasisComponent(Component):
    basis: ClassVar[type]

    def build(
        self, name: str, responses: Mapping[str, Any] | None = None, chirp: Any = None
    ) -> Any:
        """The basis; a response, receiver or loss that it names is looked up among `responses`, and `chirp` is
        what the file of that name holds."""
        keys = {k: getattr(self, k) for k in type(self).model_fields if k != "kind"}
        arguments: dict[str, Any] = {k: _given(v) for k, v in keys.items()}
        if "chirp" in arguments:
            arguments["chirp"] = chirp
        if self.below:
            arguments[self.below] = {k: v.param() for k, v in arguments[self.below].items()}
        for key, (kind, what) in _SHARED.items():
            if arguments.get(key) is None:
                continue
            known = {
                k: response
                for k, response in (responses or {}).items()
                if isinstance(response, kind)
            }
            if arguments[key] not in known:
                raise vp.InputError(
                    f"{key}: no {what} '{arguments[key]}'. {nearest(arguments[key], known)}"
                )
            arguments[key] = known[arguments[key]]
        return self.basis(name, **arguments)


def _given(value: Any) -> Any:
    """What the basis gets for a key."""
    if isinstance(value, list):
        return [_given(one) for one in value]
    return value.given() if isinstance(value, Parameter) else value


def _to_list(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple) else [value]


# The coefficients of a polynomial, one or several.
_POWERS = Annotated[
    list[Parameter],
    BeforeValidator(_to_list, json_schema_input_type=Parameter | list[Parameter]),
]
# Lines of one component: pairs of a shift or a wavelength, and a ratio.
_LINES = Annotated[
    list[Annotated[list[Number], Field(min_length=2, max_length=2)]], Field(min_length=1)
]
# What components name and share, by the key under which they do.
_SHARED: dict[str, tuple[type, str]] = {
    "irf": (vp.basis.AbstractResponse, "response"),
    "receiver": (vp.Receiver, "receiver"),
    "loss": (vp.basis.AbstractLoss, "loss"),
}


class CustomComponent(Component):
    """A function of the user's, found by its import path; modules in `folder` come first."""

    kind: Literal["custom"]
    function: Word
    """Where it is, module:function; it is called with a dict of parameters and x, and returns columns."""
    folder: Word = "."
    """Where its module is looked for first, seen from the configuration."""
    parameters: dict[Word, Parameter] = {}
    """Its nonlinear parameters by name."""
    columns: list[Word] | None = None
    """Names of its columns; numbers by default."""
    unit: Word | None = None
    """The unit of its coefficients."""
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
    return any(
        isinstance(member, type) and issubclass(member, vp.basis.Shared) for member in members
    )


def _component(
    kind: str, basis: type, default: Any = ..., what: str = "Component"
) -> type[Component]:
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
        elif hint == vp.basis.Origin:
            fields[field.name] = (Number | None, None)  # pyright: ignore[reportOperatorIssue]
        elif hint == vp.basis.Lines:
            fields[field.name] = (_LINES | None, None)  # pyright: ignore[reportOperatorIssue]
        elif hint in (vp.basis.Knots, vp.basis.Wavelengths):
            fields[field.name] = (list[Number] | None, None)
        elif hint == vp.basis.Powers:
            fields[field.name] = (_POWERS, [])
        elif hint == vp.basis.Chirp:
            fields[field.name] = (Word | None, None)  # pyright: ignore[reportOperatorIssue]
        elif hint == (float | None):
            fields[field.name] = (Number | None, None)  # pyright: ignore[reportOperatorIssue]
        elif _is_response(hint):
            fields[field.name] = (
                Annotated[str | None, BeforeValidator(to_word, json_schema_input_type=str | None)],
                None,
            )
        elif hint in SCALARS:
            fields[field.name] = (SCALARS[hint], ... if required else field.default)
    component = pydantic.create_model(
        f"{kind.title().replace('_', '')}{what}", __base__=BasisComponent, **fields
    )
    component.basis, component.below = basis, below
    return component


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
    background: Annotated[
        float | Literal["estimate"],
        BeforeValidator(to_word_or_number, json_schema_input_type=float | Literal["estimate"]),
    ] = 0.0
    """What is subtracted from y: a number, or estimate."""
    period: Parameter | None = None
    """Time between excitations, held."""
    shift_dispersion: _POWERS = []
    """Coefficients by which the shift follows the wavelength, as in a gaussian response."""
    dispersion_center: Number | None = None
    """The wavelength at which the shift is shift."""
    dispersion_in: Word = "wavelength"
    """wavelength, or wavenumber."""
    chirp: Word | None = None
    """A file of two columns, wavelength and time zero, that is added to the shift."""
    wavelengths: list[Number] | None = None
    """Wavelengths of the right-hand sides, where the data have none."""


def _kind_of_response(data: Any) -> str:
    return data.get("kind", "gaussian") if isinstance(data, dict) else getattr(data, "kind", "")


RESPONSES = {
    "gaussian": _component("gaussian", vp.GaussianIRF, "gaussian", what="Response"),
    "measured": MeasuredResponse,
    "receiver": _component("receiver", vp.Receiver, what="Response"),
    "shirley": _component("shirley", vp.Shirley, what="Response"),
    "tougaard": _component("tougaard", vp.Tougaard, what="Response"),
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
