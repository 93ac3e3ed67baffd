"""The unit of every fitted number, from the units of the axes."""

# A parameter's name says what it is: along x, or per x. What is not listed has no derived unit.
_ALONG_X = {"tau", "center", "width", "fwhm", "shift", "scale", "period", "delay"}
# So are these, of the kinds that have them; a function of one's own may mean something else.
_OF_PEAKS = {"sigma", "gamma"}
# The coefficients of a dispersion are, too, for each power of what has no unit.
_ALONG_X |= {f"{name}_dispersion" for name in ("center", "width", "shift")}
_PER_X = {"rate", "freq", "frequency"}
# Widths of lines in the spectrum of what is a wave along x.
_OF_LINES = {"fwhm", "gaussian"}


def power(unit: str, exponent: int) -> str:
    """`unit` to a power, in parentheses where it needs them."""
    if not unit or exponent == 0:
        return ""
    base = f"({unit})" if any(sign in unit for sign in " /*^·") else unit
    return base if exponent == 1 else f"{base}^{exponent}"


def per(top: str, bottom: str) -> str:
    """`top / bottom`; nothing when neither has a unit."""
    if not bottom:
        return top
    return f"{top or '1'}/{bottom}"


def parameter_unit(kind: str, local: str, x_unit: str) -> str:
    """The unit of a nonlinear parameter by its kind of component and its local name, such as `tau`."""
    if kind == "complex_exp" and local in _OF_LINES:
        return per("", power(x_unit, 1))
    if local == "phase":
        return "rad"
    if local in _ALONG_X or (local in _OF_PEAKS and kind != "custom"):
        return x_unit
    # "A->B" is the rate of a transfer.
    return per("", power(x_unit, 1)) if local in _PER_X or "->" in local else ""


def coefficient_unit(kind: str, column: str, x_unit: str, y_unit: str) -> str:
    """The unit of a linear coefficient of a basis whose columns have none."""
    if kind == "polynomial":
        return per(y_unit, power(x_unit, int(column.rpartition(".")[2])))
    return y_unit
