"""Numbers that people report of components: areas, widths, amplitudes, fractions, mean lifetimes."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Reported(NamedTuple):
    """What a basis says of one component, from the values of its parameters and its coefficients.

    **Fields:** `own`: by local name, such as "area". `parts`: what adds up over all components that say
    it, under the local name of the share that each has in the sum, such as "fraction". `means`: under a
    full name, such as "lifetime.mean", a number times its weight, and the weight: the mean is over all
    components that say it.
    """

    own: Mapping[str, Any] = {}
    parts: Mapping[str, Any] = {}
    means: Mapping[str, tuple[Any, Any]] = {}


def collected(components: Iterable[tuple[str, Reported]]) -> dict[str, Any]:
    """All numbers by full name, from the components with their names."""
    components = list(components)
    sums: dict[str, Any] = {}
    tops: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for _, one in components:
        for key, part in one.parts.items():
            sums[key] = sums.get(key, 0.0) + part
        for key, (top, weight) in one.means.items():
            tops[key] = tops.get(key, 0.0) + top
            weights[key] = weights.get(key, 0.0) + weight
    found: dict[str, Any] = {}
    for name, one in components:
        found |= {f"{name}.{key}": value for key, value in one.own.items()}
        found |= {f"{name}.{key}": part / sums[key] for key, part in one.parts.items()}
    return found | {key: top / weights[key] for key, top in tops.items()}
