"""From a sum of bases to one function of all parameter values.

Equal formulas are gathered into groups, each evaluated at once; the partial derivatives come as
O'Leary and Rust's table (2013): which column depends on which parameter is static, so that a peak
contributes its own two or three derivative columns and nothing else.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._errors import InputError
from .._parameters.param import Param
from .._places import taken
from .._types import ArrayIn
from ._base import AbstractBasis, Shared, Sum, fields_of, without_names
from ._custom import Offset
from ._dependence import groups_of
from ._origin import with_origin
from ._reported import collected


class Partials(NamedTuple):
    """Partial derivatives: `values[:, i]` (m, d) is that of column number `column[i]` by parameter
    number `parameter[i]`; the last two are static."""

    values: Inexact[Array, "m d"]
    column: np.ndarray
    parameter: np.ndarray


class _Group(eqx.Module):
    """Bases of one formula. A row of `index` for every key: positions of their parameters among all q;
    `components`: their names."""

    formula: AbstractBasis
    keys: tuple[str, ...] = eqx.field(static=True)
    index: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    width: int = eqx.field(static=True)
    components: tuple[str, ...] = ()

    def pick(self, values: Float[ArrayIn, " q"]) -> tuple[ArrayIn, ...]:
        """Select parameters by key: (g,) for elementwise formulas, scalars otherwise."""
        if self.formula.elementwise:
            return tuple(taken(values, ids) for ids in self.index)
        return tuple(values[ids[0]] for ids in self.index)

    def evaluate(self, x: PyTree, picked: tuple[ArrayIn, ...]) -> Array:
        """Columns (m, width) for parameters by key."""
        # A formula without parameters makes host arrays of host arrays.
        return jnp.asarray(self.formula.evaluate(x, dict(zip(self.keys, picked, strict=True))))

    @property
    def has_support(self) -> bool:
        """Whether the formula tells where its columns are more than nothing."""
        tells = type(self.formula).support is not AbstractBasis.support
        return self.formula.elementwise and tells

    def made_of(self) -> list[frozenset[int]]:
        """Positions among all q of the parameters on which each column depends."""
        if self.formula.elementwise:
            return [frozenset(ids[j] for ids in self.index) for j in range(self.width)]
        every = [ids[0] for ids in self.index]
        rows = self.formula.column_parameters
        if rows is None:
            return [frozenset(every)] * self.width
        return [frozenset(every[i] for i in row) for row in rows]

    def support(self, values: Float[ArrayIn, " q"]) -> tuple[ArrayIn, ArrayIn] | None:
        """Lowest and highest x (width,) of each column; None without such ends."""
        return self.formula.support(dict(zip(self.keys, self.pick(values), strict=True)))

    def partials(self, x: PyTree, values: Float[ArrayIn, " q"], first: int) -> Iterator[Partials]:
        """Derivatives of the columns, numbered from `first`, by the q parameter values."""
        picked = self.pick(values)
        columns = first + np.arange(self.width)
        if self.formula.joint_derivative and self.index:
            positions = np.array([ids[0] for ids in self.index])
            table = jax.jacfwd(lambda v: self.evaluate(x, tuple(v)))(jnp.stack(picked))
            flat = jnp.swapaxes(table, 1, 2).reshape(table.shape[0], -1)
            yield Partials(flat, np.tile(columns, positions.size), np.repeat(positions, self.width))
            return
        sparse = self.formula.column_parameters
        if sparse is not None and len(groups := groups_of(sparse, len(self.index))) < len(picked):
            yield from self._by_groups(x, picked, first, sparse, groups)
            return
        for i, ids in enumerate(self.index):

            def columns_at(value, i=i):
                return self.evaluate(x, (*picked[:i], value, *picked[i + 1 :]))

            # Elementwise: column j depends on its own parameter j alone, so one tangent of ones
            # yields every partial of this key. Otherwise the key is one scalar: the same call.
            _, tangent = jax.jvp(columns_at, (picked[i],), (jnp.ones_like(picked[i]),))
            elementwise = self.formula.elementwise
            parameter = np.array(ids) if elementwise else np.full(self.width, ids[0])
            yield Partials(tangent, columns, parameter)

    def _by_groups(
        self,
        x: PyTree,
        picked: tuple[ArrayIn, ...],
        first: int,
        sparse: Sequence[Sequence[int]],
        groups: Sequence[Sequence[int]],
    ) -> Iterator[Partials]:
        """Derivatives by all parameters of a group at once, of which no column depends on two."""
        for group in groups:
            own = [set(row).intersection(group) for row in sparse]
            moving = np.array([j for j, row in enumerate(own) if row], int)
            along = tuple(
                jnp.ones_like(v) if i in group else jnp.zeros_like(v) for i, v in enumerate(picked)
            )
            _, tangent = jax.jvp(lambda *v: self.evaluate(x, v), picked, along)
            parameter = np.array([self.index[min(own[j])][0] for j in moving], int)
            yield Partials(tangent[:, moving], first + moving, parameter)


class Model(eqx.Module):
    """All columns of a sum of bases as a function of x and of the q parameter values.

    **Fields:** `names` of the parameters (q), `columns` names of the columns (n) in the order in
    which they are computed, `order` such that `columns[order]` is the order of the user.
    """

    groups: tuple[_Group, ...]
    offsets: tuple[_Group, ...]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    order: tuple[int, ...] = eqx.field(static=True)

    def evaluate(self, x: PyTree, values: Float[ArrayIn, " q"]) -> Inexact[Array, "m n"]:
        """The matrix `Phi` (m, n), columns in the order in which they are computed."""
        blocks = [group.evaluate(x, group.pick(values)) for group in self.groups]
        dtype = jnp.result_type(*blocks)
        return jnp.concatenate([b.astype(dtype) for b in blocks], axis=1)

    def offset(self, x: PyTree, values: Float[ArrayIn, " q"]) -> Inexact[Array, " m"] | None:
        """Sum (m,) of the terms without coefficient, or None if there are none."""
        if not self.offsets:
            return None
        return sum(g.evaluate(x, g.pick(values))[:, 0] for g in self.offsets)  # pyright: ignore

    def reported(
        self, values: Float[ArrayIn, " q"], coef: Inexact[ArrayIn, " n"]
    ) -> dict[str, ArrayIn]:
        """Numbers that people report, by full name such as "peak.area", for the coefficients in the order
        in which the model computes columns."""
        components, first = [], 0
        for group in self.groups:
            own = group.formula.elementwise
            columns = range(first, first + group.width)
            for j, name in enumerate(group.components):
                local = {
                    key: values[ids[j if own else 0]]
                    for key, ids in zip(group.keys, group.index, strict=True)
                }
                mine = [coef[i] for i in ([columns[j]] if own else columns)]
                components.append((name, group.formula.reported(local, mine)))
            first += group.width
        return collected(components)

    def reported_names(self, components: Sequence[Sequence[str]] | None = None) -> tuple[str, ...]:
        """The names of what `reported` returns, without computing it; `components` of each group where this
        model has lost its names."""
        own = [group.components for group in self.groups] if components is None else components
        found, names = [], []
        for group, mine in zip(self.groups, own, strict=True):
            one = jax.ShapeDtypeStruct((), jnp.float32)
            local = dict.fromkeys(group.keys, one)
            count = 1 if group.formula.elementwise else group.width
            said = jax.eval_shape(group.formula.reported, local, [one] * count)
            for name in mine:
                names += [f"{name}.{key}" for key in said.own]
                names += [f"{name}.{key}" for key in said.parts]
            found += said.means
        return tuple(dict.fromkeys((*names, *found)))

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of all numbers: parameters, coefficients in the order of the user, and what is reported."""
        columns = (self.columns[i] for i in self.order)
        return tuple(dict.fromkeys((*self.names, *columns, *self.reported_names())))

    @property
    def origins(self) -> dict[str, float]:
        """The x from which columns count that do not count from 0, by name."""
        origins, first = {}, 0
        for group in self.groups:
            origin = getattr(group.formula, "origin", None)
            if isinstance(origin, np.ndarray) and origin.ndim == 0 and origin != 0:
                names = self.columns[first : first + group.width]
                origins |= dict.fromkeys(names, float(origin))
            first += group.width
        return origins

    @property
    def rowwise(self) -> bool:
        """Whether every row is made of its own x alone."""
        return all(group.formula.rowwise for group in (*self.groups, *self.offsets))

    @property
    def interchangeable(self) -> list[tuple[tuple[int, ...], ...]]:
        """Indices of the parameters of components of one formula: a row for each key, a column for each
        component."""
        return [group.index for group in self.groups if group.formula.elementwise]

    def identical_columns(
        self, values: np.ndarray
    ) -> Iterator[tuple[str, str, list[tuple[int, int]]]]:
        """Pairs of columns of one formula whose parameters have equal `values` (q,): the names of
        both columns, and the indices of their parameters side by side."""
        first = 0
        for group in self.groups:
            first_index: dict[tuple[float, ...], int] = {}
            members = range(group.width if group.formula.elementwise and group.keys else 0)
            for j in members:
                i = first_index.setdefault(tuple(values[ids[j]] for ids in group.index), j)
                if i != j:
                    pairs = [(ids[i], ids[j]) for ids in group.index]
                    yield self.columns[first + i], self.columns[first + j], pairs
            first += group.width

    def moved_by(self, parameters: Sequence[int]) -> np.ndarray:
        """Flags (n,) of the columns that depend on any of the parameters with these indices."""
        wanted = set(parameters)
        return np.array([not wanted.isdisjoint(row) for row in self.made_of()], bool)

    def made_of(self) -> list[frozenset[int]]:
        """The indices of the parameters on which each of the n columns depends."""
        return [row for group in self.groups for row in group.made_of()]

    def partials(self, x: PyTree, values: Float[ArrayIn, " q"]) -> Partials | None:
        """Derivatives of the columns by the q parameter values; None if there are none."""
        partials, first = [], 0
        for group in self.groups:
            partials += group.partials(x, values, first)
            first += group.width
        if not partials:
            return None
        fields = list(zip(*partials, strict=True))
        dtype = jnp.result_type(*fields[0])
        return Partials(
            jnp.concatenate([v.astype(dtype) for v in fields[0]], axis=1),
            np.concatenate(fields[1]),
            np.concatenate(fields[2]),
        )


def build_model(basis: AbstractBasis) -> Model:
    """Gather the parts of `basis` by formula, and check that names are unique.

    **Raises:** `InputError` for a name that two components give, and for a model without a column.
    """
    parts = list(_terms(basis))
    shared = _shared_parameters(parts)
    keys_of = [tuple(part.parameters) for part in parts]
    # One look at each method: equinox makes a module of it every time.
    names_of = [
        tuple(map(part.parameter_name, keys)) for part, keys in zip(parts, keys_of, strict=True)
    ]
    all_names = [name for part_names in names_of for name in part_names]
    names = tuple(dict.fromkeys(all_names))
    counted = (*(name for name in all_names if name not in shared), *shared)
    columns_wanted = tuple(name for part in parts for name in part.column_names)
    for what, words in (("component", columns_wanted), ("parameter", counted)):
        repeated = [word for word, count in Counter(words).items() if count > 1]
        if repeated:
            raise InputError(
                f"Two components give a {what} the name '{repeated[0]}'. Names must be unique."
            )
    if not columns_wanted:
        raise InputError("The model has no column with a coefficient. Add one, such as Constant.")
    index = {name: i for i, name in enumerate(names)}
    members_of: dict[object, list[int]] = {}
    formulas = [without_names(part) for part in parts]
    for number, (part, keys) in enumerate(zip(parts, keys_of, strict=True)):
        leaves, structure = jax.tree.flatten(formulas[number])
        # Arrays in a formula, such as a measured response, are the same if they are one object; numbers
        # if they are equal.
        same = tuple(id(leaf) if np.ndim(leaf) else np.asarray(leaf).tobytes() for leaf in leaves)
        key = (structure, keys, same) if part.elementwise else number
        members_of.setdefault(key, []).append(number)

    groups, offsets, columns_made = [], [], []
    for members in members_of.values():
        first = members[0]
        index_rows = tuple(
            zip(*([index[name] for name in names_of[i]] for i in members), strict=True)
        )
        group_columns = [name for i in members for name in parts[i].column_names]
        is_offset = isinstance(parts[first], Offset)
        width = 1 if is_offset else len(group_columns)
        components = tuple(parts[i].name for i in members)
        group = _Group(formulas[first], keys_of[first], index_rows, width, components)
        (offsets if is_offset else groups).append(group)
        columns_made += group_columns
    order = tuple(columns_made.index(name) for name in columns_wanted)
    return Model(tuple(groups), tuple(offsets), names, tuple(columns_made), order)


def counted_from(basis: AbstractBasis, origins: Mapping[str, np.ndarray]) -> AbstractBasis:
    """The same basis, the columns of which count from these origins, by name, as in `Model.origins`."""
    parts = basis.parts if isinstance(basis, Sum) else (basis,)
    moved = tuple(
        with_origin(part, origins[names[0]])
        if (names := part.column_names) and names[0] in origins
        else part
        for part in parts
    )
    return Sum(moved) if isinstance(basis, Sum) else moved[0]


def _shared_parameters(parts: Iterable[AbstractBasis]) -> dict[str, Param]:
    """Parameters that components have in common, by name.

    **Raises:** `InputError` if two responses of one name differ.
    """
    parameters: dict[str, Param] = {}
    for part in parts:
        for _, value in fields_of(part):
            if isinstance(value, AbstractBasis):
                shared = _shared_parameters([value])
            else:
                shared = value.parameters if isinstance(value, Shared) else {}
            for name, param in shared.items():
                if parameters.setdefault(name, param) != param:
                    raise InputError(
                        f"Two responses give a parameter the name '{name}', and differ in it. Give one "
                        "object to all components that share it, or another name."
                    )
    return parameters


def _terms(basis: AbstractBasis) -> Iterator[AbstractBasis]:
    """Iterate over the terms of a sum; an offset of a sum is a sum of offsets."""
    if isinstance(basis, Sum):
        for part in basis.parts:
            yield from _terms(part)
    elif isinstance(basis, Offset) and isinstance(basis.basis, Sum):
        yield from (Offset(part) for part in _terms(basis.basis))
    else:
        yield basis
