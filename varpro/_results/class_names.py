"""Names of our classes in saved files: a file outlives the place of a class and what it is called here.

A saved fit names a class of ours by a word of this table, and a basis by its public name. A class that
moves or gets another name keeps its word; a class that is not listed cannot be saved.
"""

import importlib
import operator
from typing import Any

from .. import basis as bases

_PACKAGE = bases.__name__.partition(".")[0]

# The word in a file: where the class stands now.
_PLACES = {
    "Names": "varpro._given.names:Names",
    "Param": "varpro._parameters.param:Param",
    "Layout": "varpro._parameters.layout:Layout",
    "Numbers": "varpro._parameters.layout:Numbers",
    "Group": "varpro.basis._model:_Group",
    "Joined": "varpro._linked.joined:Joined",
    "Sides": "varpro.basis._dispersion:Sides",
    "Linear": "varpro._problem.linear_constraints:Linear",
    "Compressed": "varpro._problem.compress:Compressed",
    "CovarianceBlocks": "varpro._statistics.covariance:CovarianceBlocks",
    "Optimum": "varpro._statistics.joint_covariance:Optimum",
    "Derived": "varpro._statistics.derived_result:Derived",
    "FitResult": "varpro._results.fit_result:FitResult",
    "Amplitudes": "varpro._results.compressed_fit:Amplitudes",
    "DmdSpectrum": "varpro._dmd.exponentials:Spectrum",
    "DmdErrors": "varpro._dmd.result:Errors",
    "DmdBags": "varpro._dmd.bagging:DmdBags",
}


def is_ours(path: str) -> bool:
    """Whether `module:name` lies in this package."""
    return path.partition(":")[0].split(".")[0] == _PACKAGE


def word_of(kind: type[Any]) -> str | None:
    """The word of a class of ours; None if it has none."""
    if getattr(bases, kind.__name__, None) is kind:
        return kind.__name__
    path = f"{kind.__module__}:{kind.__qualname__}"
    return next((word for word, place in _PLACES.items() if place == path), None)


def class_of(word: str) -> type[Any]:
    """The class that a word of a file names. **Raises:** `ValueError` for a word that is not known."""
    if word not in _PLACES:
        kind = getattr(bases, word, None)
        if not isinstance(kind, type):
            raise ValueError(f"no class {word}")
        return kind
    module, _, name = _PLACES[word].partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))
