"""`varpro new`: a commented configuration to start from, its model guessed from data if there are some."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import varpro as vp

from ..atomic_files import replace_file
from ..config.config import Output
from ..config.data import Data
from ..config.fit import Constraints, Fit, Solver
from ..data.formats import read_arrays
from ..data.kinds import is_table
from ..data.text_table import read_table
from .model_guess import DataSummary, guess
from .reference import keys_of

_SIGMA = re.compile(r"(?i)(sigma|std|sd|err|error|unc|uncertainty|dy|y_?err|e_?y)")
_X = re.compile(r"(?i)(x|t|time|times|delay|wavelength|wl|nu|energy|freq|frequency|position|ppm)")
_COUNTED = re.compile(r"(?i).*(count|photon|intens|adc|events).*")


def write_starter(config: Path, source: Path | None, overwrite: bool) -> list[str]:
    """Write the file; returns what to tell the user.

    **Raises:** `InputError` if the file exists, or the data cannot be read or understood.
    """
    if config.exists() and not overwrite:
        raise vp.InputError(
            f"{config}: exists. Add --overwrite to replace it, or give another name."
        )
    if not config.parent.is_dir():
        raise vp.InputError(f"{config}: cannot be written; there is no folder {config.parent}.")
    messages: list[str] = []
    counted = False
    if source is None:
        data = {"path": "data.csv", "x": "time", "y": "[counts]"}
        model = ["decay: {kind: exp, tau: 1.0}", "background: {kind: constant}"]
        responses: list[str] = []
    else:
        summary = _summarise(source)
        path = os.path.relpath(source.absolute(), config.parent.absolute())
        data = {"path": _quoted(Path(path).as_posix()), "x": _quoted(summary.x_name)}
        data["y"] = f"[{', '.join(_quoted(name) for name in summary.y_names)}]"
        if summary.sigma and summary.sigma != "poisson":
            data["sigma"] = summary.sigma
        data |= summary.extra
        messages.append(
            f"x is '{summary.x_name}', y is {', '.join(summary.y_names[:4])}"
            + (", ..." if len(summary.y_names) > 4 else "")
        )
        if summary.sigma == "poisson":
            # Weights from the counts themselves are biased towards small ones.
            counted = True
            messages.append("noise: poisson (y holds counts)")
        elif summary.sigma:
            messages.append(f"sigma: {summary.sigma}")
        responses, model, sentence = guess(summary)
        messages.append(sentence)
    text = "\n".join(_lines(config.stem, data, responses, model, counted)) + "\n"
    replace_file(config, text)
    return [*messages, f"Written to {config}. Next: varpro check {config}"]


def _lines(
    title: str, data: dict[str, str], responses: list[str], model: list[str], counted: bool
) -> Iterator[str]:
    yield f"# {title}: a fit with varpro. `varpro check` shows what it would do, `varpro run` does it."
    yield "# What begins with # is not in use; remove that to use it."
    yield "schema: 1"
    yield ""
    yield "data:"
    for key, value in data.items():
        yield f"  {key}: {value}"
    yield from _commented(Data, "  ", set(data))
    yield ""
    if responses:
        yield "responses:"
        yield from (f"  {line}" for line in responses)
        yield ""
    yield "# `varpro models` lists all kinds. A number is a start; or {init: 1.0, lower: 0, fixed: true}."
    yield "model:"
    yield from (f"  {line}" for line in model)
    yield ""
    yield "# constraints:"
    yield from _commented(Constraints, "#   ", set())
    yield ""
    if counted:
        yield "fit:"
        yield "  noise: poisson  # the likelihood of counts; weights taken from them are biased"
    else:
        yield "# fit:"
    mark = "  # " if counted else "#   "
    yield from _commented(Fit, mark, {"solver", "noise"} if counted else {"solver"})
    yield f"{mark}solver:"
    yield from _commented(Solver, f"{mark}  ", set())
    yield ""
    yield "output:"
    yield f"  dir: runs/{title}"
    yield from _commented(Output, "  ", {"dir"})


def _commented(section: Any, indent: str, without: set[str]) -> Iterator[str]:
    """The keys of a section with their defaults and what they mean, as comments."""
    texts = section.texts()
    for key, takes, default in keys_of(section):
        if key in without:
            continue
        name = next(n for n, f in section.model_fields.items() if (f.alias or n) == key)
        text = texts.get(name, "")
        mark = indent if "#" in indent else f"{indent}# "
        value = default if default not in ("", "required", "see below") else f"<{takes}>"
        yield f"{mark}{key}: {value}  # {text}"


def _quoted(name: str) -> str:
    return (
        name if re.fullmatch(r"[A-Za-z_./][\w./-]*", name) else '"' + name.replace('"', '\\"') + '"'
    )


def _summarise(source: Path) -> DataSummary:
    return _summarise_table(source) if is_table(source) else _summarise_arrays(source)


def _summarise_table(source: Path) -> DataSummary:
    table = read_table(source)
    names = table.names()
    numbers: dict[int, np.ndarray] = {}
    for j in range(len(names)):
        try:
            numbers[j] = table.numbers(j)
        except vp.InputError:
            continue
    if len(numbers) < 2:
        raise vp.InputError(
            f"{source}: has {len(numbers)} column{'s' * (len(numbers) != 1)} of numbers; a fit takes x "
            "and y. Where samples are evenly spaced, write their positions beside them."
        )
    x_named = [j for j in numbers if _X.fullmatch(names[j])]
    x = (x_named or [j for j in numbers if _monotonic(numbers[j])] or list(numbers))[0]
    rest = [j for j in numbers if j != x]
    sigma = next((j for j in rest if _SIGMA.fullmatch(names[j])), None)
    ys = [j for j in rest if j != sigma and not _SIGMA.fullmatch(names[j])] or rest
    # Several columns are curves side by side if their heads are numbers; else the first is y.
    numeric = all(_is_number(names[j]) for j in ys)
    ys = ys if numeric else ys[:1]
    y = np.stack([numbers[j] for j in ys], axis=1)
    sigma_name = names[sigma] if sigma is not None else None
    if sigma_name is None and len(ys) == 1 and _counts(y, names[ys[0]]):
        sigma_name = "poisson"
    y_names = [names[j] for j in ys]
    if len(ys) > 3 and len(ys) == len(rest):
        y_names = ["*"]
    return DataSummary(names[x], y_names, sigma_name, numbers[x], y, {})


def _summarise_arrays(source: Path) -> DataSummary:
    dataset = read_arrays(source)
    vectors = {str(n): v for n, v in dataset.variables.items() if v.ndim == 1}
    tables = {str(n): v for n, v in dataset.data_vars.items() if v.ndim == 2}
    images = [str(n) for n, v in dataset.data_vars.items() if v.ndim > 2]
    names = [n for n in vectors if _X.fullmatch(n.rpartition("/")[2])]
    names = names or [n for n, v in vectors.items() if _monotonic(np.asarray(v.values))]
    if not names or not (tables or len(vectors) > 1):
        hint = f" '{images[0]}' has more than two axes: see share: none." if images else ""
        raise vp.InputError(
            f"{source}: found no x and y among {', '.join(map(str, dataset.variables))}.{hint} Write the "
            "configuration without --from."
        )
    # Of several axes, the one that decays or peaks lie along is called time or comes first.
    time = [n for n in names if re.search(r"(?i)time|delay|^t$", n)]
    x_name = (time or names)[0]
    (axis,) = vectors[x_name].dims
    matching = [n for n, v in tables.items() if axis in v.dims]
    if matching:
        y_name = matching[0]
        y = np.asarray(dataset[y_name].transpose(axis, ...).values)
    else:
        vectors_y = [n for n, v in vectors.items() if v.dims == (axis,) and n != x_name]
        vectors_y = [n for n in vectors_y if not _SIGMA.fullmatch(n)]
        if not vectors_y:
            raise vp.InputError(f"{source}: nothing lies along '{x_name}'.")
        y_name = vectors_y[0]
        y = np.asarray(vectors[y_name].values)[:, None]
    sigma = "poisson" if y.shape[1] == 1 and _counts(y, y_name) else None
    return DataSummary(x_name, [y_name], sigma, np.asarray(vectors[x_name].values, float), y, {})


def _monotonic(x: np.ndarray) -> bool:
    step = np.diff(x)
    return x.size > 2 and bool(np.isfinite(x).all() and ((step > 0).all() or (step < 0).all()))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _counts(y: np.ndarray, name: str) -> bool:
    """Whether y looks like counted photons: whole numbers, and many of them or by name."""
    finite = y[np.isfinite(y)]
    if not _COUNTED.fullmatch(name) and finite.size < 50:
        return False
    return bool(
        finite.size
        and (finite >= 0).all()
        and (finite == np.round(finite)).all()
        and finite.max() > 5
    )
