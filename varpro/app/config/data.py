"""What `data:` and each of `datasets:` may say."""

import math
from typing import Annotated, Literal

import pydantic
from pydantic import BeforeValidator, Field

from .messages import wrong
from .scalars import Delimiter, Number, Word, Words, to_word_or_number, to_words
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
    """The column or array of sample positions."""
    y: Words = []
    """One or more columns, or patterns such as "4*"; or an array on the axis of x and one more."""
    imag: Annotated[list[Word], BeforeValidator(to_words)] = []
    """Imaginary parts, one column, pattern or array for each of y, which are then the real parts; arrays of complex numbers need none."""
    variable: Word | None = None
    """The array of curves of an image or a cube, on any axes; another word for y."""
    dims: Words | None = None
    """Names of the axes of that array, in order, where the file has none."""
    spacing: Number | None = None
    """The step of x along that array, where the file has no positions; the first is origin."""
    origin: Number = 0.0
    """The first position along x, if spacing is given."""
    sigma: Annotated[str | float | None, BeforeValidator(to_word_or_number)] = None
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
