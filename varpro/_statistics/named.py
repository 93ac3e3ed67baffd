"""What holds numbers by the names of parameters and columns, as a mapping without its values."""

from collections.abc import Iterator

import equinox as eqx

from .derived_result import Derived


class AbstractNamed(eqx.Module):
    """Parameters and coefficients by name, and quantities that were derived from them."""

    names: eqx.AbstractVar[tuple[str, ...]]
    columns: eqx.AbstractVar[tuple[str, ...]]
    derived: eqx.AbstractVar[Derived | None]

    def __iter__(self) -> Iterator[str]:
        """The names of all parameters and coefficients."""
        return iter((*self.names, *self.columns))

    def __len__(self) -> int:
        return len(self.names) + len(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self.columns or name in (self.derived or ())
