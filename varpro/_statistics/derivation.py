"""What is to be derived from a fit: all of its numbers by name, and the quantities that are asked for."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._errors import InputError, suggestion
from .._parameters.expression import Expression
from .._parameters.layout import expand
from .._problem.model_like import ModelLike, as_basis
from ..basis import Custom, Model, Sum, build_model, without_names

Derivation: TypeAlias = (
    str
    | Callable[[Mapping[str, Any]], Any]
    | Sequence[str]
    | Mapping[str, "str | Callable[[Mapping[str, Any]], Any]"]
)
"""What is to be derived: an expression or a function of all numbers by name, several of these by the name
that each is to have, or names and patterns of what components report, such as "*.area"."""

# What one function is called that returns one number.
PLAIN = "derived"


class Numbers(Mapping[str, Any]):
    """All numbers of a fit by name, as a function of the user's gets them: parameters, coefficients, and
    what components report."""

    def __init__(self, known: Mapping[str, Any], reported: Mapping[str, Any]):
        self._known, self._reported = known, reported

    def __getitem__(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        if name in self._reported:
            return self._reported[name]
        raise InputError(f"No number '{name}'. {suggestion(name, tuple(self))}", argument="derived")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._known, *self._reported)))

    def __len__(self) -> int:
        return len({*self._known, *self._reported})


class Named(eqx.Module):
    """The models of one or several data sets, with names that are part of the program.

    **Fields:** `models`; `keys`: before the names of each; `parameters`: by name, the data set that has it
    and its place there; `columns`: names of coefficients, of each data set, none where these are not
    single numbers.
    """

    models: tuple[Model, ...]
    keys: tuple[str, ...] = eqx.field(static=True)
    parameters: tuple[tuple[str, int, int], ...] = eqx.field(static=True)
    columns: tuple[tuple[str, ...] | None, ...] = eqx.field(static=True)
    components: tuple[tuple[tuple[str, ...], ...], ...] = eqx.field(static=True)

    def numbers(self, values: Sequence[Any], coef: Sequence[Any]) -> Numbers:
        """All numbers by name, for the parameters (q,) and the coefficients (n,) of each data set."""
        known = {name: values[s][i] for name, s, i in self.parameters}
        reported: dict[str, Any] = {}
        for s, (key, names) in enumerate(zip(self.keys, self.columns, strict=True)):
            if names is None:
                continue
            known |= {f"{key}{name}": coef[s][i] for i, name in enumerate(names)}
            model = self.models[s]
            groups = tuple(
                dataclasses.replace(group, components=own)
                for group, own in zip(model.groups, self.components[s], strict=True)
            )
            found = Model(groups, (), (), names, model.order).reported(values[s], coef[s])
            reported |= {f"{key}{name}": value for name, value in found.items()}
        return Numbers(known, reported)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all numbers, found without computing any."""
        reported = [
            f"{key}{name}"
            for key, columns, own, model in zip(
                self.keys, self.columns, self.components, self.models, strict=True
            )
            if columns is not None
            for name in (*columns, *model.reported_names(own))
        ]
        return tuple(dict.fromkeys((*(name for name, _, _ in self.parameters), *reported)))


def named(model: Model) -> Named:
    """The model of a single data set."""
    parameters = tuple((name, 0, i) for i, name in enumerate(model.names))
    components = tuple(group.components for group in model.groups)
    return Named((without_names(model),), ("",), parameters, (model.columns,), (components,))


class Recipe(eqx.Module):
    """Quantities that are asked for, checked: `names` and for each an `Expression` of known names or a
    function; a single function may return a dict of several, and then says their names itself."""

    names: tuple[str, ...] | None = eqx.field(static=True)
    parts: tuple[Any, ...] = eqx.field(static=True)

    def __call__(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """All quantities by name. **Raises:** `InputError` for what is not one real number each."""
        found: dict[str, Any] = {}
        if self.names is None:
            out = self.parts[0](numbers)
            found = dict(out) if isinstance(out, Mapping) else {PLAIN: out}
        else:
            # Those that come later may take those before them.
            for name, part in zip(self.names, self.parts, strict=True):
                found[name] = part(Numbers(found, numbers) if found else numbers)
        return {str(name): _number(name, value) for name, value in found.items()}


def _number(name: str, value: Any) -> Array:
    try:
        array = jnp.asarray(value)
    except TypeError:
        raise InputError(f"'{name}' must be a number, not {value!r}.", argument="derived") from None
    if array.shape not in ((), (1,)):
        raise InputError(
            f"'{name}' must be one number, but has shape {array.shape}. Return a dict of numbers.",
            argument="derived",
        )
    if jnp.iscomplexobj(array):
        raise InputError(
            f"'{name}' is complex. Take its abs, its angle, or its real and imaginary part.",
            argument="derived",
        )
    return (
        array.reshape(()).astype(jnp.result_type(float))
        if array.dtype.kind in "iub"
        else (array.reshape(()))
    )


def recipe(what: Derivation, known: Sequence[str]) -> Recipe:
    """What is asked for, checked against the names of all numbers.

    **Raises:** `InputError` for unknown names, and for what is no expression and no function.
    """
    if callable(what):
        return Recipe(None, (what,))
    if isinstance(what, str):
        if what in known or any(sign in what for sign in "*?[") and _pattern(what, known):
            what = [what]
        else:
            return Recipe((what,), (Expression.parse(what, known, "derived"),))
    if isinstance(what, Mapping):
        parts, known = [], list(known)
        for name, one in what.items():
            if not isinstance(name, str):
                raise InputError(f"derived: {name!r} is no name.", argument="derived")
            if name in known:
                raise InputError(
                    f"derived: '{name}' is the name of a number of the model. Choose another one.",
                    argument="derived",
                    name=name,
                )
            try:
                parts.append(one if callable(one) else Expression.parse(one, known, "derived"))
            except InputError as error:
                raise InputError(str(error), argument="derived", name=name) from error
            known.append(name)
        return Recipe(tuple(what), tuple(parts))
    if not isinstance(what, Sequence) or not all(isinstance(one, str) for one in what):
        raise InputError(
            "derived: expected an expression such as 'a.area / b.area', a function, names, or a dict of "
            f"these, not {what!r}.",
            argument="derived",
        )
    names = list(dict.fromkeys(n for one in what for n in expand(one, known, "derived")))
    return Recipe(tuple(names), tuple(Expression.parse(n, known, "derived") for n in names))


def check_derivation(
    what: Derivation, model: ModelLike, init: Mapping[str, Any], several: bool
) -> None:
    """Refuse what cannot be derived before anything is fitted, as far as the names are known: those of
    functions of the user's come with the data, and those of several data sets have these before them."""
    if several or callable(what):
        return
    basis = as_basis(model, init)
    parts = basis.parts if isinstance(basis, Sum) else (basis,)
    if not any(isinstance(part, Custom) for part in parts):
        recipe(what, build_model(basis).number_names)


def _pattern(text: str, known: Sequence[str]) -> bool:
    """Whether a text with a star in it is a pattern of names, and no product."""
    try:
        return bool(expand(text, known, "derived"))
    except InputError:
        return False


def names_asked(
    models: Named, asked: Recipe, values: Sequence[Any], coef: Sequence[Any]
) -> tuple[str, ...]:
    """The names of what is asked for, without computing it. **Raises:** `InputError` where it is nothing."""
    # Only a function that returns a dict has to be looked into, which traces every number of the models.
    names = asked.names or ()
    if names:
        return names

    def look(values: Any, coef: Any) -> None:
        nonlocal names
        names = tuple(asked(models.numbers(values, coef)))

    jax.eval_shape(look, list(values), list(coef))
    if not names:
        raise InputError("derived: nothing is asked for.", argument="derived")
    return names
