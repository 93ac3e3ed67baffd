"""Units in a table: in a row of their own, or in brackets behind a name."""

import re

from .table_lines import Line

_UNIT = re.compile(r"(.*?)\s*(?:\[(.*)\]|\((.*)\))")
_UNIT_ALONE = re.compile(r"\[.*\]|\(.*\)")
# As they are written, in small letters; those with a blank stand apart.
_UNITS = frozenset(
    """
    s sec second seconds ms us µs μs ns ps fs min h hr d
    nm um µm μm mm cm m km å a angstrom pm inch pixel px
    cm-1 cm^-1 1/cm cm⁻¹ nm-1 å-1 1/å 1/nm 1/s s-1 s^-1 1/a a-1
    hz khz mhz ghz thz rad rad/s deg degree degrees ° 2theta °2th.
    ev mev kev k °c c degc °f v mv µv uv kv ma µa ua na
    t mt g gauss mg kg µg ug ng pa kpa mpa gpa bar mbar n
    mol/l mmol/l µmol/l mg/ml mg/l ppm ppb % l ml
    a.u. au arb.u. arb counts count cts cps
    counts/s kcps od mod δod δmod dod abs rfu rlu j kj w mw
    db ml/min l/min m3/s m³/s sccm slm atm torr mtorr psi hpa w/m2 w/m² mw/cm2 mw/cm² a/m2 ma/cm2 ma/cm²
    dbm ω ohm kohm s/m 1 - -- none unitless dimensionless n/a
    """.split()
) | {"a. u.", "arb. u.", "arb. units"}
# Units of one letter, as they are written; and units that are names of columns as often.
_LETTERS = frozenset("smhdgVKTJWMÅ°%1Ω")
_NAMES_TOO = frozenset(
    """
    counts count cts od abs deg degree degrees second seconds min sec gauss pixel px 2theta --
    none n/a rfu rlu arb ma na pa db
    """.split()
)


def is_units(line: Line) -> bool:
    """Whether a line holds units and nothing else, one of which at least is no name."""
    some = [f.strip() for f in line.fields if f.strip()]
    if not all(_UNIT_ALONE.fullmatch(f) or f.lower() in _UNITS for f in some):
        return False
    # t, A and counts are called so, too.
    return any(
        _UNIT_ALONE.fullmatch(f) or f in _LETTERS or (len(f) > 1 and f.lower() not in _NAMES_TOO)
        for f in some
    )


def split_unit(head: str) -> tuple[str, str]:
    """A name and the unit in brackets behind it."""
    match = _UNIT.fullmatch(head)
    if match is None or not match[1]:
        return head, ""
    return match[1], (match[2] or match[3] or "").strip()
