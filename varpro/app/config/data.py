"""What `data:` and each of `datasets:` may say."""

import codecs
import math
from typing import Annotated, Literal

import pydantic
from pydantic import BeforeValidator, Field

from .messages import wrong
from .scalars import (
    Delimiter,
    Lines,
    Number,
    OneOrMore,
    Truth,
    Word,
    Words,
    to_word_or_number,
)
from .section import Section


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
    """The column, by name or by number from 1, or the array of sample positions; dates are seconds since the first."""
    y: Words = []
    """One or more columns, by name or number, or patterns such as "4*"; or an array on the axis of x and one more."""
    imag: Annotated[list[Word], OneOrMore] = []
    """Imaginary parts, one column, pattern or array for each of y, which are then the real parts; arrays of complex numbers need none."""
    variable: Word | None = None
    """The array of curves of an image or a cube, on any axes; another word for y."""
    dims: Words | None = None
    """Names of the axes of that array, in order, where the file has none."""
    spacing: Number | None = None
    """The step of x, along that array or from row to row, where the file has no positions; x is then what they are called, and the first is origin."""
    origin: Number = 0.0
    """The first position along x, if spacing is given."""
    sigma: Annotated[
        str | float | None,
        BeforeValidator(to_word_or_number, json_schema_input_type=float | str | None),
    ] = None
    """Standard deviations: a column or array, a number, or poisson for the root of the counts."""
    covariance: Word | None = None
    """The covariance matrix of the noise of all rows of a table, in their order: a table of numbers or a .npy file."""
    weights: Word | None = None
    """A column or array that multiplies the residual."""
    delimiter: Delimiter = "auto"
    """How a table of text is cut into fields."""
    skip: Annotated[int | None, Lines] = None
    """Lines of a table to leave out at the top; found by default, as are the keys down to encoding."""
    comment: Word | None = None
    """What lines that are left out begin with; by default #, and other signs where no row begins with them."""
    header: Annotated[int | None, Lines] = None
    """How many rows of names stand above the numbers: 0, 1 or 2."""
    units_row: Truth | None = None
    """Whether a row of units stands below the names."""
    footer: Annotated[int | None, Lines] = None
    """Lines of a table to leave out at the end."""
    decimal: Literal[".", ","] | None = None
    """The sign before decimals."""
    thousands: Literal[",", ".", " ", "'"] | None = None
    """The sign between thousands."""
    encoding: Word | None = None
    """How letters are written: utf-8, latin-1, utf-16, shift_jis."""
    sheet: Word | None = None
    """The sheet of a workbook, by name or by number from 1; by default the first that holds rows of numbers."""
    transpose: Truth = False
    """Whether the rows of a table are its curves, as plate readers write them: then its first column holds the names."""
    units: Units = Units()
    """Units of x and y."""
    where: dict[Word, Word] = {}
    """Rows of a table to use, by the text in a column: {sample: A}."""
    select: dict[Word, Number | Annotated[list[Number], Field(min_length=2, max_length=2)]] = {}
    """Parts of axes of arrays to use, by their labels, or of images by places from 0: {wavelength: [400, 500], row: [10, 40]}."""
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
        if self.covariance is not None and (self.sigma is not None or self.weights is not None):
            raise wrong("covariance says it all: leave sigma and weights out.")
        if isinstance(self.sigma, float) and not 0 < self.sigma < math.inf:
            raise wrong(f"sigma must be positive and finite, not {self.sigma:g}.")
        if self.spacing is not None and (not math.isfinite(self.spacing) or self.spacing == 0):
            raise wrong(f"spacing must be finite and not 0, not {self.spacing:g}.")
        if not math.isfinite(self.origin):
            raise wrong(f"origin must be finite, not {self.origin:g}.")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise wrong("range is [lowest x, highest x].")
        if self.variable is not None and self.y:
            raise wrong("give y or variable, not both.")
        if self.header is not None and self.header > 2:
            raise wrong(f"header is 0, 1 or 2 rows of names, not {self.header}.")
        if self.decimal is not None and self.decimal == self.thousands:
            raise wrong(f"decimal and thousands are both '{self.decimal}'.")
        if self.encoding is not None:
            try:
                "".encode(codecs.lookup(self.encoding).name)
            except (LookupError, ValueError):
                raise wrong(f"encoding: there is none called '{self.encoding}'.") from None
        for key, names in (("y", self.y), ("imag", self.imag)):
            if twice := [name for name in names if names.count(name) > 1]:
                raise wrong(f"{key} names '{twice[0]}' twice.")
        if self.x in (*self.y, *self.imag, self.variable):
            raise wrong(f"'{self.x}' is both x and y.")
        if self.imag and len(self.imag) != max(len(self.y), 1):
            raise wrong(f"imag has {len(self.imag)} names, but there are {len(self.y)} real parts.")
        return self


class Dataset(Data):
    """One of several data sets, with the components of the model that it has; all by default."""

    model: Words | None = None
    """Components of the model that this data set has; all by default."""

    @pydantic.model_validator(mode="after")
    def _check_model(self) -> "Dataset":
        if twice := [name for name in self.model or () if (self.model or []).count(name) > 1]:
            raise wrong(f"model names '{twice[0]}' twice.")
        return self
