"""What people bring as arrays, in whatever holds it: the only place that knows containers.

NumPy arrays of any type, byte order and stride, masked arrays, lists, xarray, pandas, polars, dask, torch,
JAX, CuPy, sparse matrices, and quantities with units become native NumPy arrays, with what their owner
said of them: which values are missing, what the axes are called, where they stand. None of those packages is
imported here: who brings one has imported it.
"""

import array as _array
import dataclasses
import numbers
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._errors import InputError


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of labelled data: its `name`, "" for none; the `labels` along it, None for none; their
    `unit`; and whether they are those that pandas counts where nobody gives any."""

    name: str = ""
    labels: np.ndarray | None = None
    unit: str = ""
    counted: bool = False


class Given(NamedTuple):
    """An array as it was given: native `values`; `missing`, True where the container says that there is
    no value, or None; one `Axis` for each of its axes, or none, and whether those go by their names and
    not by their order; its name and unit."""

    values: np.ndarray
    missing: np.ndarray | None = None
    axes: tuple[Axis, ...] = ()
    name: str = ""
    unit: str = ""
    by_name: bool = False


def numbers_of(what: str, value: object) -> Given:
    """Floating or complex numbers; missing values are NaN.

    **Raises:** `InputError` that names `what` for anything that is no array of numbers.
    """
    given = read(what, value)
    array = _numeric(what, given.values)
    if given.missing is not None and given.missing.any():
        # What lies below a mask is no value.
        array = np.where(given.missing, np.full((), np.nan, array.dtype), array)
        return given._replace(values=array)
    return given._replace(values=array, missing=None)


def real_numbers(what: str, value: object) -> np.ndarray:
    """The same of what must be real, as a plain array with NaN where a value is missing."""
    array = numbers_of(what, value).values
    if np.iscomplexobj(array):
        raise InputError(f"{what} must be real, but has dtype {array.dtype}.", argument=what)
    return array


def truth_of(what: str, value: object) -> Given:
    """Truth values; what is missing is False."""
    given = read(what, value)
    array = given.values
    if array.dtype == object and all(isinstance(one, bool | np.bool_) for one in array.flat):
        array = array.astype(bool)
    if array.dtype != bool:
        raise InputError(
            f"{what} must be boolean, True for what to use, but has dtype {array.dtype}. Say which "
            f"numbers mean that, as in {what} > 0.",
            argument=what,
        )
    if given.missing is not None:
        array = array & ~given.missing
    return given._replace(values=array, missing=None)


def read(what: str, value: object) -> Given:
    """Any container as a NumPy array, with what it knows of its values and axes."""
    if value is None:
        raise InputError(f"{what} is missing.", argument=what)
    if isinstance(value, str | bytes | bytearray) or isinstance(value, set | frozenset):
        raise InputError(
            f"{what} must be numeric, but is {type(value).__name__} {str(value)[:40]!r}.",
            argument=what,
        )
    reader = _READERS.get(_package(value))
    if reader is not None:
        given = reader(what, value)
        if given is not None:
            return given
    if isinstance(value, Mapping):
        raise InputError(f"{what} must be an array, not {type(value).__name__}.", argument=what)
    if isinstance(value, np.ma.MaskedArray):
        return Given(_native(what, np.ma.getdata(value)), _mask_of(value))
    if isinstance(value, list | tuple) and any(isinstance(v, np.ma.MaskedArray) for v in value):
        return read(what, _tried(what, value, np.ma.stack))
    if _has_unit(value):
        return read(what, value.magnitude)._replace(unit=_unit(value.units))  # pyright: ignore
    if isinstance(value, np.ndarray) and hasattr(value, "value"):  # astropy
        return read(what, np.asarray(value))._replace(unit=_unit(getattr(value, "unit", None)))
    foreign = not hasattr(value, "__array__") and hasattr(value, "__dlpack__")
    return Given(_native(what, _tried(what, value, np.from_dlpack if foreign else np.asarray)))


def is_labelled(value: object) -> bool:
    """Whether a container knows what its axes are called or where they stand."""
    kind = type(value).__name__
    return _package(value) in ("xarray", "pandas", "polars") and kind in (
        *("DataArray", "Dataset", "Variable", "Series", "DataFrame"),
    )


def is_table(value: object) -> bool:
    """Whether it is a table of columns with names."""
    return _package(value) in ("pandas", "polars") and type(value).__name__ == "DataFrame"


def is_array(value: object) -> bool:
    """Whether a value is an array, or stands for one, in memory or not; and no iterator over parts."""
    if isinstance(
        value, list | tuple | range | memoryview | _array.array | np.generic | np.ndarray
    ):
        return True
    if (
        isinstance(value, numbers.Number | str | bytes | bytearray | set | frozenset)
        or value is None
    ):
        return True
    if _package(value) in _READERS:
        return True
    return any(
        hasattr(value, name) for name in ("__array__", "__dlpack__", "__array_interface__", "dtype")
    )


def lazy_parts(value: Any) -> tuple[Any, Any]:
    """An array as it is, if slices of it can be had without reading all, or if it is NumPy's own; and
    where a mask covers its values. (None, None) for everything else."""
    if isinstance(value, np.ma.MaskedArray):
        return (None, None) if value.dtype == object else (np.ma.getdata(value), _mask_of(value))
    if isinstance(value, np.ndarray) and type(value) in (np.ndarray, np.memmap):
        return (None, None) if value.dtype == object or value.dtype.names else (value, None)
    if _package(value) == "dask" and hasattr(value, "compute"):
        if not isinstance(getattr(value, "_meta", None), np.ma.MaskedArray):
            return value, None
        import dask.array

        return dask.array.ma.getdata(value), dask.array.ma.getmaskarray(value)
    known = _package(value) in _READERS or _has_unit(value)
    sliced = all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__"))
    if known or not sliced or isinstance(value, np.ndarray):
        return None, None
    return value, None


def one_variable(what: str, value: Any) -> Any:
    """The only array of an `xarray.Dataset`; anything else as it is."""
    if _package(value) == "xarray" and type(value).__name__ == "Dataset":
        names = [str(name) for name in value.data_vars]
        if len(names) != 1:
            raise InputError(
                f"{what} is a Dataset with {len(names)} variables ({', '.join(names[:8]) or 'none'}). "
                f"Give one of them: dataset['{names[0] if names else 'name'}'].",
                argument=what,
            )
        return value[names[0]]
    return value


# ---------------------------------------------------------------- types of numbers


def _native(what: str, array: np.ndarray) -> np.ndarray:
    """The same numbers in the byte order of this machine and in a type that JAX has."""
    array = np.asarray(array)
    if array.dtype.names:
        raise InputError(
            f"{what} is a structured array with the fields {', '.join(array.dtype.names)}. Give one "
            f"of them: {what}['{array.dtype.names[0]}'].",
            argument=what,
        )
    if array.dtype == object:
        return _of_objects(what, array)
    if array.dtype.kind == "V" and array.dtype.name.startswith(("bfloat", "float")):
        return array.astype(np.float32)
    if array.dtype.kind in "fc" and array.dtype.itemsize > (8 if array.dtype.kind == "f" else 16):
        return array.astype(float if array.dtype.kind == "f" else complex)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _of_objects(what: str, array: np.ndarray) -> np.ndarray:
    """Python's own numbers, in which None is a missing value; truth values stay as they are."""
    kinds = {type(one) for one in array.flat}
    if kinds and all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(bool)
    known = (int, float, complex, np.number, type(None))
    for kind in sorted(kinds, key=lambda kind: kind.__name__):
        if not issubclass(kind, known) or issubclass(kind, bool | np.timedelta64):
            if kind.__name__ in ("NAType", "NaTType"):
                continue
            if kind.__name__ in ("Timedelta", "timedelta", "timedelta64"):
                raise _spans(what, kind.__name__)
            raise InputError(
                f"{what} must be numeric, but has dtype object and holds {_called(kind)}. "
                f"Convert it: np.asarray({what}, float).",
                argument=what,
            )
    values = [np.nan if _nothing(one) else one for one in array.flat]
    wide = any(isinstance(one, complex | np.complexfloating) for one in values)
    return np.array(values, complex if wide else float).reshape(array.shape)


def _nothing(one: object) -> bool:
    return one is None or type(one).__name__ in ("NAType", "NaTType")


def _called(kind: type) -> str:
    return {
        "str": "text",
        "list": "lists of different lengths",
        "tuple": "lists of different lengths",
        "ndarray": "arrays of different lengths",
    }.get(kind.__name__, kind.__name__)


def _spans(what: str, dtype: object) -> InputError:
    return InputError(
        f"{what} holds spans of time ({dtype}), whose numbers depend on a unit. Divide by one: "
        f"{what} / np.timedelta64(1, 's').",
        argument=what,
    )


def _numeric(what: str, array: np.ndarray) -> np.ndarray:
    """Floating or complex numbers of single or double precision."""
    kind = array.dtype.kind
    if kind == "m":
        raise _spans(what, array.dtype)
    if kind == "M":
        raise InputError(
            f"{what} holds dates ({array.dtype}). Count from one of them in a unit: "
            f"({what} - {what}[0]) / np.timedelta64(1, 's').",
            argument=what,
        )
    if kind not in "iufc":
        raise InputError(f"{what} must be numeric, but has dtype {array.dtype}.", argument=what)
    return array.astype(float) if kind in "iu" or array.dtype == np.float16 else array


# ---------------------------------------------------------------- containers


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _tried(what: str, value: Any, convert: Callable[[Any], Any]) -> np.ndarray:
    """`convert(value)`; whatever a library says of what it cannot convert, in our words."""
    try:
        return convert(value)
    except Exception as error:
        if "Tracer" in type(error).__name__:
            raise InputError(
                f"{what} is traced: this runs outside of jit, vmap and grad. Inside of them use "
                "vp.solve(basis, y, alpha0), which is made for it.",
                argument=what,
            ) from error
        if isinstance(value, list | tuple):
            lengths = sorted(
                {len(v) for v in value if hasattr(v, "__len__") and not isinstance(v, str | bytes)}
            )
            reason = f"its parts have the lengths {lengths}" if len(lengths) > 1 else str(error)
            raise InputError(f"{what} is ragged: {reason}.", argument=what) from error
        raise InputError(
            f"{what} of type {type(value).__name__} cannot be read as an array ({error}).",
            argument=what,
        ) from error


def _mask_of(value: np.ma.MaskedArray) -> np.ndarray | None:
    if np.ma.getmask(value) is np.ma.nomask:
        return None
    mask = np.ma.getmaskarray(value)
    return mask.copy() if mask.dtype == bool else None


def _has_unit(value: object) -> bool:
    """Whether it is a quantity of pint."""
    return hasattr(value, "magnitude") and hasattr(value, "units")


def _unit(value: object) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text in ("dimensionless", "nan") else text


def _xarray(what: str, value: Any) -> Given | None:
    value = one_variable(what, value)
    if not hasattr(value, "dims"):
        return None
    inner = read(what, value.data if hasattr(value, "data") else np.asarray(value))
    axes = axes_of(value)
    unit = _unit(value.attrs.get("units")) or inner.unit
    by_name = all(axis.name for axis in axes)
    name = _word(getattr(value, "name", None))
    return inner._replace(axes=axes, name=name, unit=unit, by_name=by_name)


# What xarray calls an axis that nobody gave a name.
_AUTOMATIC = re.compile(r"dim_\d+")


def axes_of(value: Any) -> tuple[Axis, ...]:
    """The axes of a labelled array of xarray, whose values are not read."""
    coords = getattr(value, "coords", {})
    return tuple(
        Axis(
            "" if _AUTOMATIC.fullmatch(str(dim)) else str(dim),
            np.asarray(coords[dim].values) if dim in coords and coords[dim].ndim == 1 else None,
            _unit(coords[dim].attrs.get("units")) if dim in coords else "",
        )
        for dim in value.dims
    )


def _word(name: object) -> str:
    return "" if name is None else str(name)


def _pandas(what: str, value: Any) -> Given | None:
    kind = type(value).__name__
    if kind == "DataFrame":
        columns = [_series(f"{what}['{name}']", value.iloc[:, i]) for i, name in enumerate(value)]
        axes = _index(value.index), _index(value.columns)
        return _side_by_side(what, columns, axes)
    if kind == "Series":
        found = _series(what, value)
        return found._replace(axes=(_index(value.index),), name=_word(value.name))
    if hasattr(value, "to_numpy"):  # an Index, or an array of an extension type
        return _series(what, value)._replace(name=_word(getattr(value, "name", None)))
    return None


def _series(what: str, value: Any) -> Given:
    """One column of pandas; whatever type holds it."""
    dtype = value.dtype
    if str(dtype) == "category":
        raise InputError(
            f"{what} must be numeric, but is categorical. Give the numbers: {what}.astype(float).",
            argument=what.partition("[")[0],
        )
    missing = np.asarray(value.isna())
    if isinstance(dtype, np.dtype):
        array = value.to_numpy()
    elif str(dtype).lower() in ("boolean", "bool", "bool[pyarrow]"):
        array = value.to_numpy(dtype=bool, na_value=False)
    elif getattr(dtype, "kind", "O") in "iufc":
        array = value.to_numpy(dtype=complex if dtype.kind == "c" else float, na_value=np.nan)
    else:
        array = value.to_numpy()
    # NaN is a value that may be refused; of truth values and of masks nothing but this says it.
    return Given(_native(what, array), missing if array.dtype == bool and missing.any() else None)


def _index(index: Any) -> Axis:
    counted = type(index).__name__ == "RangeIndex" and index.name is None
    counted = counted and index.start == 0 and index.step == 1
    return Axis(_word(index.name), _as_numbers(np.asarray(index)), counted=counted)


def _as_numbers(labels: np.ndarray) -> np.ndarray:
    """Numbers for labels that are numbers written as text, as a header of a file is read."""
    if labels.dtype.kind not in "OUT" or not labels.size:
        return labels
    try:
        found = np.array([float(one) for one in labels.tolist() if isinstance(one, str)])
    except ValueError:
        return labels
    return found if found.size == labels.size else labels


def _side_by_side(what: str, columns: list[Given], axes: tuple[Axis, Axis]) -> Given:
    if not columns:
        raise InputError(f"{what} is a table without columns.", argument=what)
    values = np.stack([one.values for one in columns], axis=1)
    missing = None
    if any(one.missing is not None for one in columns):
        missing = np.stack(
            [np.zeros(len(values), bool) if c.missing is None else c.missing for c in columns],
            axis=1,
        )
    return Given(values, missing, axes)


def _polars(what: str, value: Any) -> Given | None:
    kind = type(value).__name__
    if kind == "LazyFrame":
        value, kind = value.collect(), "DataFrame"
    if kind == "DataFrame":
        columns = [_polars_column(f"{what}['{name}']", value[name]) for name in value.columns]
        axes = Axis(counted=True), Axis("", _as_numbers(np.array(value.columns, object)))
        return _side_by_side(what, columns, axes)
    if kind == "Series":
        return _polars_column(what, value)._replace(name=_word(value.name))
    return None


def _polars_column(what: str, value: Any) -> Given:
    dtype = str(value.dtype).partition("(")[0]
    if dtype in ("Categorical", "Enum", "Decimal", "String", "Utf8", "Object"):
        raise InputError(
            f"{what} must be numeric, but has dtype {value.dtype}.", argument=what.partition("[")[0]
        )
    missing = np.asarray(value.is_null().to_numpy())
    if dtype == "Boolean":
        return Given(np.asarray(value.fill_null(False).to_numpy(), bool), missing)
    return Given(_native(what, np.asarray(value.to_numpy())))


def _dask(what: str, value: Any) -> Given | None:
    if not hasattr(value, "compute"):
        return None
    return read(what, _tried(what, value, lambda v: v.compute()))


def _torch(what: str, value: Any) -> Given | None:
    if not hasattr(value, "detach"):
        return None

    def plain(tensor: Any) -> np.ndarray:
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
        return (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()

    return Given(_native(what, _tried(what, value, plain)))


def _cupy(what: str, value: Any) -> Given | None:
    return (
        Given(_native(what, _tried(what, value, lambda v: v.get())))
        if hasattr(value, "get")
        else None
    )


def _sparse(what: str, value: Any) -> Given | None:
    return Given(_native(what, value.toarray())) if hasattr(value, "toarray") else None


_READERS: dict[str, Callable[[str, Any], Given | None]] = {
    **{"xarray": _xarray, "pandas": _pandas, "polars": _polars, "dask": _dask, "torch": _torch},
    **{"cupy": _cupy, "scipy": _sparse},
}


def as_positions(what: str, value: object, count: int | None = None) -> Any:
    """What stands for the positions of samples, with lists of plain numbers as arrays: `[1.0, 2.0]` is
    an axis, `([1.0, 2.0], [3.0, 4.0])` two of `count` samples each. Other structures stay."""
    if isinstance(value, list | tuple) and value and _all_numbers(value):
        lengths = {len(one) for one in value if isinstance(one, list | tuple)}
        if count is not None and len(value) != count and lengths == {count}:
            return type(value)(np.asarray(one) for one in value)
        return _tried(what, value, np.asarray)
    return value


def _all_numbers(value: Iterable[Any]) -> bool:
    return all(
        _all_numbers(one)
        if isinstance(one, list | tuple)
        else np.ndim(one) == 0 and not isinstance(one, Mapping)
        for one in value
    )
