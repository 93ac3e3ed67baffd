"""From a configuration file to one call of `varpro.fit`. Reads files and writes none."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import varpro as vp

from ..config.config import Config
from ..config.document import Document
from ..data.samples import Columns
from ..provenance import Inputs

if TYPE_CHECKING:
    from ..data.from_cube import Source


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a run needs, checked. A single data set has the empty name."""

    document: Document
    config: Config
    sets: dict[str, Columns]
    models: dict[str, vp.basis.AbstractBasis]
    units: dict[str, str]
    inputs: Inputs
    listed: dict[str, vp.Param]
    source: "Source | None" = None  # the cube, where every curve is fitted for itself

    @property
    def folder(self) -> Path:
        """The folder of the configuration file, from which its paths are read."""
        return Path(self.document.file).absolute().parent

    @property
    def title(self) -> str:
        """What the run is about: the title given, or the name of the file."""
        return self.config.title or Path(self.document.file).stem

    @property
    def several(self) -> bool:
        """Whether there are data sets with names."""
        return self.config.data is None

    @property
    def columns(self) -> Columns:
        """The samples of the only data set, or of the first."""
        return next(iter(self.sets.values()))

    @property
    def model(self) -> vp.basis.AbstractBasis:
        """The model of the only data set, or of the first."""
        return next(iter(self.models.values()))

    def only(self, name: str) -> "Plan":
        """The plan of one of the data sets."""
        return dataclasses.replace(
            self, sets={name: self.sets[name]}, models={name: self.models[name]}
        )

    @property
    def parameters(self) -> dict[str, vp.Param]:
        """All nonlinear parameters as the models declare them, by their names there."""
        found: dict[str, vp.Param] = {}
        for model in self.models.values():
            parts = model.parts if isinstance(model, vp.basis.Sum) else (model,)
            found |= {p.parameter_name(k): v for p in parts for k, v in p.parameters.items()}
        return found

    def resolved(self, target: Path) -> dict[str, Any]:
        """The configuration with every default filled in, as it reproduces the run from `target`."""
        tree = self.config.model_dump(mode="json", by_alias=True, exclude_none=True)
        # In the same place whether it was given or not, so that a run of the result writes the same.
        tree = {"schema": tree["schema"], "title": self.title} | tree
        sections = tree["datasets"] if self.several else {"": tree["data"]}
        for name, section in sections.items():
            data = self.sets[name]
            given = self.config.sections[name].path
            section["path"] = _path_from(target, self.folder / given)
            if not section["y"]:
                del section["y"]
            units = {"x": data.x_unit, "y": data.y_unit}
            section["units"] = {k: v for k, v in units.items() if v}
        if self.config.parameters is not None:
            tree["parameters"] = _path_from(target, self.folder / self.config.parameters)
        for section in tree.get("responses", {}).values():
            for key in ("path", "chirp"):
                if key in section:
                    section[key] = _path_from(target, self.folder / section[key])
        for section in tree["model"].values():
            if "folder" in section:
                section["folder"] = _path_from(target, self.folder / section["folder"])
        tree["output"]["dir"] = "."
        return tree


def _path_from(folder: Path, path: Path) -> str:
    """`path` seen from `folder`, or absolute when they have nothing but the root in common."""
    path = Path(os.path.normpath(path))
    common = os.path.commonpath([folder, path]) if folder.anchor == path.anchor else path.anchor
    if common == path.anchor:
        return path.as_posix()
    return Path(os.path.relpath(path, folder)).as_posix()
