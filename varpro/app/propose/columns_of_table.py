"""Which columns of a table are x and y, and what weighs them."""

import dataclasses
import fnmatch
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import varpro as vp

from ..config.messages import nearest
from ..data.number_text import as_number
from ..data.table_lines import TableFormat, shortened
from ..data.text_table import Table, read_table, repeated_names
from ..scaffold.starter import quoted
from .found import Asked, Found
from .looks import SIGMA, X, monotonic, noise_of, shortlist
from .orientation import is_plate, lies_on_its_side

_INDEX = re.compile(r"(?i)(|index|unnamed: 0|id|no\.?|nr\.?|#|row|point|pt|sample|i|n|idx)")
# How many times larger than others a column is that is no curve beside them.
_UNLIKE = 1e4
# Values of a column that has more only by what was measured.
_FLAG = 3
# What an instrument was told, and counts of what it did.
_SETTING = re.compile(
    r"(?i)mode|ox/?red|.*\bchanges|ns|counter inc\.|.*\brange|(half )?cycle( number)?|control/.*|.*set[ -]?point.*"
)
_WELL = re.compile(r"[A-P] ?0?[0-9]{1,2}")
# Rows from which a column that rises or falls does not do so by chance.
_BY_CHANCE = 8
_BLANK = re.compile(r"(?i)(baseline|blank|reference|background|dark|ref)\b")
# Names of real and imaginary parts: what they have in common, and which part it is.
_PART = re.compile(
    r"(?i)(.*?)[ _.(]*(?<![A-Za-z])(real|re|in[- ]?phase|imaginary|imag|im|quadrature|i|q)(?![A-Za-z])[ _.)]*(.*)"
)
_REAL = ("re", "real", "i", "in-phase", "inphase", "in phase")


def columns_of_table(source: Path, asked: Asked) -> Found:
    table = read_table(source)
    turned = asked == Asked(noise=asked.noise) and lies_on_its_side(table)
    if turned:
        table = read_table(source, TableFormat(transpose=True))
    if (spacing := asked.spacing) is not None:
        asked = dataclasses.replace(asked, x=asked.x or "x")
        table = table.with_positions(asked.x or "x", spacing, 0.0)
    if asked.x is None and is_plate(table):
        raise vp.InputError(
            f"{source}: its rows are {table.rows[-1][0]} and those above: a plate that was read once, without x. Write a "
            "row for each x, and a column for each well."
        )
    names = table.names()
    numbers: dict[int, np.ndarray] = {}
    refused: list[str] = []
    for j in range(len(names)):
        try:
            numbers[j] = table.values(j, dates=True)
        except vp.InputError as error:
            refused.append(str(error))
    # A column of which nothing was measured is neither x nor y.
    empty = [j for j, v in numbers.items() if not np.isfinite(v).any()]
    x = _x_of_table(source, table, numbers, refused, asked)
    gaps = int((~np.isfinite(numbers[x])).sum())
    if asked.x is None and 2 * gaps > len(table.rows):
        raise vp.InputError(
            f"{source}: '{names[x]}' has gaps in {gaps} of {len(table.rows)} rows, as where blocks of a plate stand "
            "one below the other. Write one row for each x; --x NAME takes another column."
        )
    where = None
    if asked.x is None and (times := _restarts(numbers[x])):
        where = _curve_of_many(table, numbers[x], x)
        if where is None:
            raise vp.InputError(
                f"{source}: '{names[x] or f'column {x + 1}'}' goes back to its beginning {times} "
                f"time{'s' * (times > 1)}: several curves stand one below the other. Write a column for each, or "
                "beside them which is which; --x NAME takes them as one curve."
            )
        rows = [i for i, row in enumerate(table.rows) if row[where[0]] == where[1]]
        table, numbers = table.take(rows), {j: values[rows] for j, values in numbers.items()}
        numbers.pop(where[0], None)
    others = [j for j in numbers if j != x]
    counted = _counted(names, numbers)
    left_out = [
        j for j in others if len(others) > 1 and (j == counted or _is_index(names[j], numbers[j]))
    ]
    sigma = next((j for j in others if SIGMA.fullmatch(names[j]) and len(others) > 1), None)
    some = [
        j
        for j in others
        if j not in left_out and not (SIGMA.fullmatch(names[j]) and len(others) > 1)
    ]
    some = [j for j in some if j not in empty] or [j for j in others if j not in empty] or others
    some = _telling(names, numbers, x, some)
    if asked.y:
        ys = [j for name in asked.y for j in _matching(source, table, name) if j != x]
    else:
        ys = _alike(names, [j for j in some if not table.holds_dates(j)] or some)
        unnamed = all(name == str(j + 1) for j, name in enumerate(names))
        if unnamed and len(ys) > 1:
            _refuse_unlike(source, table, numbers, ys, x)
        elif unnamed and len(names) > 4 and len(some) > 1 and ys[0] > x + 1:
            raise vp.InputError(
                f"{source}: {len(names)} columns have no names. Line {table.lines[0]} is "
                f"'{shortened(table.raw[0].strip())}'. Which one is y? --x {x + 1} --y {ys[0] + 1}, say, or names in a "
                "line above."
            )
    if turned and len(ys) == 1:
        ys = [j for j in some if not X.fullmatch(names[j])] or ys  # each row is a curve
    if not ys:
        raise vp.InputError(
            f"{source}: no column beside '{names[x]}' holds numbers. Which one is y? --y NAME"
        )
    y = np.stack([numbers[j] for j in ys], axis=1)
    keys = {"transpose": "true"} if turned else {}
    if asked.spacing is not None:
        keys["spacing"] = f"{asked.spacing:.15g}"
    keys |= {"x": _token(table, x), "y": ""}
    pair = None if asked.y else _parts(names, ys if len(ys) > 1 else some)
    if pair is not None:
        ys = list(pair)
        y = numbers[ys[0]][:, None] + 1j * numbers[ys[1]][:, None]
        keys["y"], keys["imag"] = _token(table, ys[0]), _token(table, ys[1])
    elif len(ys) > 3 and set(ys) == set(others):
        keys["y"] = '["*"]'
    else:
        keys["y"] = f"[{', '.join(_token(table, j) for j in ys)}]"
    chosen = [names[j] or f"column {j + 1}" for j in ys]
    said = [f"x is '{names[x] or f'column {x + 1}'}', y is {shortlist(chosen)}"]
    if pair is not None:
        said = [f"x is '{names[x]}', y is {chosen[0]} + i {chosen[1]}"]
    if where is not None:
        column, word, rest_of = names[where[0]], where[1], where[2]
        keys["where"] = f"{{{quoted(column)}: {quoted(word)}}}"
        said.append(
            f"of the curves below each other that of {column} '{word}'; also {shortlist(rest_of)}"
        )
    if turned:
        said.insert(0, "the rows of the file are the curves (transpose: true)")
    weights = None
    if sigma is not None and sigma not in ys and len(ys) == 1:
        good = np.isfinite(numbers[sigma]) & (numbers[sigma] > 0)
        if good.all() and "weight" not in names[sigma].lower():
            weights = numbers[sigma]
            keys["sigma"] = _token(table, sigma)
            said.append(f"sigma: {names[sigma]}")
    rest = [names[j] or f"column {j + 1}" for j in others if j not in ys and j != sigma]
    if rest:
        said.append(f"not used: {shortlist(rest)} (--x and --y choose others)")
    noise = noise_of(y, chosen[0], asked) if weights is None else asked.noise
    if noise == "poisson":
        said.append("noise: poisson (y holds counts)" if asked.noise is None else "noise: poisson")
    whole = np.isfinite(y) & np.isfinite(numbers[x])[:, None]
    if not whole.all():
        keys["nan"] = "drop"
        said.append(f"{int((~whole.all(axis=1)).sum())} rows with gaps are left out (nan: drop)")
    wells = len(ys) > 1 and all(_WELL.fullmatch(names[j]) for j in ys)
    return Found(np.asarray(numbers[x], float), y, weights, keys, noise, False, wells, tuple(said))


def _telling(
    names: list[str], numbers: dict[int, np.ndarray], x: int, some: list[int]
) -> list[int]:
    """The columns that hold as many numbers as others, which differ, and no blank, no reference and not x once
    more, where there are such."""
    filled = {j: int(np.isfinite(numbers[j]).sum()) for j in some}
    most = max(filled.values(), default=0)
    full = [j for j in some if 2 * filled[j] >= most]
    varied = [j for j in full if np.unique(numbers[j][np.isfinite(numbers[j])]).size > 1]
    own = [j for j in varied if not np.array_equal(numbers[j], numbers[x], equal_nan=True)]
    named = [j for j in own if not _BLANK.match(names[j])]
    # A few values over and over are a setting or a flag, and what is called as x is lies beside it.
    kinds = {j: np.unique(numbers[j][np.isfinite(numbers[j])]).size for j in named}
    flags = max(kinds.values(), default=0) > 10 * _FLAG
    told = [j for j in named if not flags or kinds[j] > _FLAG or _WELL.fullmatch(names[j])]
    told = [j for j in told if not _SETTING.fullmatch(names[j])] or told
    told = [j for j in told if not (X.fullmatch(names[j]) and _sorted(numbers[j]))] or told
    if {"W", "S", "P"} <= set(names):  # of a spectrometer that says no more: the processed one
        told = [j for j in told if names[j] == "P"] or told
    return told or named or own or varied or full or some


def _curve_of_many(table: Table, x: np.ndarray, index: int) -> tuple[int, str, list[str]] | None:
    """The column whose words tell apart curves that stand one below the other: its index, the first of its
    words, and the others."""
    for j, name in enumerate(table.names()):
        words = [row[j] for row in table.rows]
        known = list(dict.fromkeys(words))
        if j == index or not name or not 2 <= len(known) <= len(words) / 4 or not all(known):
            continue
        parts = [x[[i for i, word in enumerate(words) if word == one]] for one in known]
        if all(monotonic(part) for part in parts):
            return j, known[0], known[1:]
    return None


def _restarts(x: np.ndarray) -> int:
    """How often x, which otherwise rises or falls, goes back to where it began."""
    x = x[np.isfinite(x)]
    step = np.diff(x)
    if x.size < 8 or not np.ptp(x):
        return 0
    sign = np.sign(np.median(step))
    back = sign * step < -0.5 * np.ptp(x)
    if not sign or not (sign * step[~back] >= 0).all() or back.sum() > x.size / 4:
        return 0
    return int(back.sum())


def _x_of_table(
    source: Path,
    table: Table,
    numbers: dict[int, np.ndarray],
    refused: list[str],
    asked: Asked,
) -> int:
    names = table.names()
    if asked.x is not None:
        index = _matching(source, table, asked.x)[0]
        if index not in numbers:
            raise vp.InputError(f"{source}: --x: column '{asked.x}' holds no numbers.")
        return index
    empty = [names[j] for j, v in numbers.items() if not np.isfinite(v).any()]
    numbers = {j: v for j, v in numbers.items() if np.isfinite(v).any()}
    real = {j: v for j, v in numbers.items() if not np.iscomplexobj(v)}
    if not numbers:
        text = shortened(" ".join(table.header))
        raise vp.InputError(
            f"{source}: holds no table of numbers. Line {table.header_line} is '{text}', line "
            f"{table.lines[0]} '{shortened(table.raw[0].strip())}'."
        )
    if len(table.rows) < 2:
        raise vp.InputError(
            f"{source}: has one row of numbers, line {table.lines[0]}; nothing can be guessed from it."
        )
    if len(numbers) < 2 or not real:
        one = f", '{names[next(iter(numbers))]}'" if len(numbers) == 1 else ""
        line = f" Line {table.lines[0]} is '{shortened(table.raw[0].strip())}'."
        if empty and not refused:
            line = f" Column '{empty[0]}' has only 0 samples that are finite.{line}"
        advice = (
            f" The first that is none: {refused[0]}"
            if refused
            else f"{line} Where samples are evenly spaced, say their step: --spacing 0.004"
        )
        raise vp.InputError(
            f"{source}: has {len(numbers)} column{'s' * (len(numbers) != 1)} of numbers{one}; a fit takes "
            f"x and y.{advice}"
        )
    counted = _counted(names, real)
    rest = {j: v for j, v in real.items() if j != counted and not _is_index(names[j], v)}
    # An index is x where nothing else can be.
    real = rest if len(numbers) - (len(real) - len(rest)) >= 2 and rest else real
    headed = names != [str(i + 1) for i in range(len(names))]
    positions = [j for j in real if headed and as_number(names[j]) is not None]
    if len(positions) > 3:  # where curves stand, and no x
        real = {j: v for j, v in real.items() if j not in positions}
        if not real:
            raise vp.InputError(
                f"{source}: the columns are named by numbers, and none of them is x. Which one is? --x NAME"
            )
    named = [j for j in real if X.fullmatch(names[j]) and np.unique(real[j]).size > 2]
    rising = [j for j in real if monotonic(real[j])]
    both = [j for j in named if _sorted(real[j])]
    dates = [j for j in rising if table.holds_dates(j)]
    # What is called as x is but goes up and down is y as often: a temperature beside a clock.
    leading = [j for j in rising if j == min(real)]
    # By chance few numbers rise, too; and of many columns without names x is the first.
    if len(real) >= 4 and (not headed or len(table.rows) < _BY_CHANCE):
        rising = []
    if found := both or dates or leading or named or rising:
        return found[0]
    if _parts(names, list(real)) is not None and len(real) == 2:
        raise vp.InputError(
            f"{source}: '{names[0]}' and '{names[1]}' are parts of one signal, and no column is x. Write "
            "their positions beside them, or say --x NAME."
        )
    spread = {j: np.unique(v[np.isfinite(v)]).size for j, v in real.items()}
    first = next(iter(real))
    texts = [j for j in range(len(names)) if j not in numbers]
    if any(
        2 * sum(bool(_WELL.fullmatch(row[j])) for row in table.rows) > len(table.rows)
        for j in texts
    ):
        raise vp.InputError(
            f"{source}: every row is a well, and no column rises or falls: a plate that was read once. Which column is "
            "x? --x NAME"
        )
    unnamed = all(n == f"{i + 1}" for i, n in enumerate(names))
    if spread[first] < 0.5 * len(real[first]) or not unnamed or len(real) > 2:
        # Neither a name nor an order says which it is: x may be in any order if it is named.
        if len(real) == 2 and spread[first] > 2:
            return first
        raise vp.InputError(
            f"{source}: no column rises or falls all along or is called as x is; found "
            f"{shortlist([n or 'one without name' for n in names])}. Which one is x? --x NAME; or the step of samples "
            "that are evenly spaced, --spacing 0.004"
        )
    return first


def _matching(source: Path, table: Table, name: str) -> list[int]:
    """The columns that a word of the command line names."""
    index = table.find(name)
    if index is not None:
        return [index]
    found = [j for j, head in enumerate(table.names()) if fnmatch.fnmatch(head, name)]
    if not found:
        raise vp.InputError(f"{source}: no column '{name}'. {nearest(name, table.names())}")
    return found


def _token(table: Table, index: int) -> str:
    """How a configuration names a column: by its name, or by number where that says nothing."""
    name = table.names()[index]
    alone = Counter(table.names())[name] == 1 and name.strip() and name not in repeated_names(table)
    matches = any(sign in name for sign in "*?[")
    if alone and not matches:
        return quoted(name)
    head = table.header[index]
    if head.strip() and table.header.count(head) == 1 and not any(s in head for s in "*?"):
        return quoted(head)
    return str(index + 1)


def _alike(names: list[str], some: list[int]) -> list[int]:
    """The columns that are curves side by side: their names are numbers, wells, or differ in numbers alone."""
    if len(some) < 2:
        return some

    def kind(name: str) -> str:
        if _is_number(name):
            return "number"
        if _WELL.fullmatch(name):
            return "well"
        # A unit is no more than that: 400 nm.
        return re.sub(r"[0-9]+([.,][0-9]+)?", "#", name) if re.search("[0-9]", name) else name

    kinds = Counter(kind(names[j]) for j in some)
    best, count = kinds.most_common(1)[0]
    numbered = all(names[j] == str(j + 1) for j in some)
    if count > 1 and not (numbered and len(some) < 4):
        return [j for j in some if kind(names[j]) == best]
    return some[:1]


def _parts(names: list[str], some: Sequence[int]) -> tuple[int, int] | None:
    """The real and the imaginary part of one signal, by their names."""
    found: dict[tuple[str, str], dict[bool, int]] = {}
    for j in some:
        match = _PART.fullmatch(names[j])
        if match:
            what = (match[1].lower(), match[3].lower())
            found.setdefault(what, {})[match[2].lower() in _REAL] = j
    pairs = [(p[True], p[False]) for p in found.values() if len(p) == 2]
    return pairs[0] if len(pairs) == 1 else None


def _is_index(name: str, values: np.ndarray) -> bool:
    """Whether a column counts the rows and is called so."""
    if not _INDEX.fullmatch(name.strip()) or np.iscomplexobj(values) or len(values) < 2:
        return False
    return bool(values[0] in (0.0, 1.0) and (np.diff(values) == 1.0).all())


def _refuse_unlike(
    source: Path, table: Table, numbers: dict[int, np.ndarray], ys: list[int], x: int
) -> None:
    """**Raises:** `InputError` where columns without names are no curves side by side: of quite other sizes."""
    sizes = np.array([float(np.nanmax(np.abs(numbers[j]))) for j in ys])
    if sizes.max() > _UNLIKE * sizes[sizes > 0].min(initial=np.inf):
        raise vp.InputError(
            f"{source}: columns have no names, and are of quite other sizes. Line {table.lines[0]} is "
            f"'{shortened(table.raw[0].strip())}'. Which ones are meant? --x {x + 1} --y {ys[-1] + 1}, say, or names in "
            "a line above."
        )


def _counted(names: list[str], numbers: dict[int, np.ndarray]) -> int | None:
    """The first of three columns or more without names, if it counts the rows and the next rises or falls."""
    if len(numbers) < 3 or any(name != f"{i + 1}" for i, name in enumerate(names)):
        return None
    first, second = (numbers[j] for j in [*numbers][:2])
    counts = _is_index("", first) and not _is_index("", second)
    return [*numbers][0] if counts and monotonic(second) else None


def _sorted(x: np.ndarray) -> bool:
    """Whether x rises or falls, some of it more than once."""
    step = np.diff(x[np.isfinite(x)])
    return bool((step >= 0).all() or (step <= 0).all())


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
