"""A whole configuration file: its sections, and what must hold between them."""

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

import varpro as vp

from .data import Data, Dataset
from .document import Document
from .fit import Compute, Constraints, Fit
from .messages import wrong
from .model import AnyComponent, Response
from .scalars import Truth, Word, to_whole, to_words_or_texts
from .section import Section
from .sentences import sentence

_NAME = re.compile(r"[^\s.*?\[\]/\\]+")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


Panel = Literal["fit", "components", "residuals"]


class Output(Section):
    dir: Word
    """The run folder, seen from the configuration; runs/NAME by default."""
    maps: Literal["nc", "zarr"] = "nc"
    """The format of the maps of share: none, result.nc or result.zarr."""
    report: Literal["html", "none"] = "html"
    """Whether to write report.html."""
    plots: list[Panel] = ["fit", "components", "residuals"]
    """The panels of figures."""
    interactive: Truth = False
    """Whether the main figures of report.html zoom, tell values and switch their curves: needs plotly (varpro[interactive]), whose script in the page weighs 4.8 MB."""


class Config(Section):
    """A whole configuration file."""

    schema_version: Annotated[
        Literal[1], BeforeValidator(to_whole, json_schema_input_type=Literal[1])
    ] = Field(1, alias="schema")
    """The version of this format."""
    title: Word | None = None
    """The heading of the report; by default the name of the file."""
    data: Data | None = None
    """The data of one data set; several stand under datasets."""
    datasets: dict[Word, Dataset] = {}
    """Several data sets by name, each with the keys of data."""
    responses: dict[Word, Response] = {}  # pyright: ignore[reportInvalidTypeForm]
    """Instrument responses by name, which components take as irf; receivers, taken as receiver; and shirley or tougaard, taken by peaks as loss."""
    model: Annotated[dict[Word, AnyComponent], Field(min_length=1)]
    """The components by name, each with its kind."""
    parameters: Word | None = None
    """A table (CSV) of name, init, lower, upper, fixed; what it says holds."""
    constraints: Constraints = Constraints()
    """Rules for parameters and coefficients."""
    derived: Annotated[
        dict[Word, Word] | list[Word],
        BeforeValidator(to_words_or_texts, json_schema_input_type=str | list[str] | dict[str, str]),
    ] = {}
    """Numbers that follow from the fit, with errors: {ratio: a.area / b.area}, or names and patterns of what components report, such as '*.area'."""
    fit: Fit = Fit()
    """How to fit."""
    compute: Compute = Compute()
    """Where to fit many curves."""
    output: Output
    """What to write, and where."""

    @pydantic.model_validator(mode="after")
    def _check_data(self) -> "Config":
        if (self.data is None) == (not self.datasets):
            raise wrong("give either data, for one data set, or datasets, for several by name.")
        if self.each and self.fit.share != "none" and self.fit.starts > 1:
            raise wrong("fit.starts: is for curves that share nothing.")
        if self.each and self.fit.share != "none" and self.fit.start == "neighbours":
            raise wrong("fit.start: neighbours is for curves that share nothing.")
        if self.at_once and self.compute.engine == "dask":
            raise wrong(
                "compute.engine: dask fits blocks of curves one by one, but these know of each other "
                "(fit.share, or fit.start: neighbours). Leave it out."
            )
        maps = [n for n, ends in self.constraints.bounds.items() if any(map(_is_text, ends))]
        maps += list(self.fit.init)
        if maps and not self.each:
            raise wrong(
                f"maps of '{maps[0]}' are for curves with parameters of their own, fit.share: none or "
                "a list of names."
            )
        return self

    @property
    def each(self) -> bool:
        """Whether every curve of the one data set has parameters of its own."""
        return self.data is not None and self.fit.share != "all"

    @property
    def at_once(self) -> bool:
        """Whether such curves know of each other, so that no block of them is done before all are."""
        return self.each and (self.fit.share != "none" or self.fit.start == "neighbours")

    @property
    def sections(self) -> dict[str, Data]:
        """What is fitted, by name; the name of a single data set is empty."""
        return {"": self.data} if self.data is not None else dict(self.datasets)

    @pydantic.field_validator("model", "responses", "datasets")
    @classmethod
    def _check_names(cls, model: dict[str, Any]) -> dict[str, Any]:
        for name in model:
            if not _NAME.fullmatch(name):
                raise wrong(f"the name '{name}' has a dot, a blank, or one of * ? [ ] / \\ in it.")
        return model


def parse(document: Document, default_dir: str) -> Config:
    """Check a loaded file; every problem found is one line of the one exception."""
    tree = dict(document.tree)
    output = tree.get("output") or {}
    if isinstance(output, dict):
        tree["output"] = {"dir": default_dir, **output}
    known: dict[int, list[str]] = {}
    try:
        return Config.model_validate(tree, context=known)
    except pydantic.ValidationError as error:
        lines = [sentence(document, detail, tree, known) for detail in error.errors()]
    raise vp.InputError("\n".join(dict.fromkeys(lines)))
