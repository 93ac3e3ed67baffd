"""Confidence intervals: what they are."""

from typing import TYPE_CHECKING, Literal

import equinox as eqx
import numpy as np

from .._errors import InputError, suggestion
from .._text import text_table

if TYPE_CHECKING:
    import pandas

Method = Literal["covariance", "profile", "bootstrap", "posterior"]
# What a limit is, other than the place that the level asks for.
NOTES = {
    "": "",
    "open": "none: the data never exclude values further out",
    "bound": "a bound",
    "edge": "the model breaks off there",
    "lower minimum": "a lower minimum lies on this side",
    "failed": "the refits did not converge",
}


class Interval(eqx.Module):
    """One confidence interval.

    **Fields:** `name`, `value`, `lower`, `upper`, and for each limit a note (see `Intervals`).
    """

    name: str
    value: float
    lower: float
    upper: float
    lower_note: str = ""
    upper_note: str = ""


class Intervals(eqx.Module):
    """Confidence intervals by name, as `FitResult.ci` returns them.

    **Fields:**

    - `names`, `value`, `lower`, `upper`: (r,) each.
    - `level`, `method`.
    - `lower_notes`, `upper_notes`: "" for an ordinary limit; "open" for one that is infinite
        because chi-square never rises enough; "bound" where the parameter stops at a bound first;
        "edge" where the model stops giving numbers, or jumps, first; "lower minimum" where a better
        fit was met on the way (the limit is NaN; see `better`); "failed" where refits did not
        converge (NaN).
    - `better`: parameter values by name at a minimum below that of the fit, if the search for the
        limits met one, else None. Pass them to `varpro.fit` as `init`.
    - `failed`: replicates of a bootstrap that did not converge and are left out.
    """

    names: tuple[str, ...]
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float
    method: Method
    lower_notes: tuple[str, ...]
    upper_notes: tuple[str, ...]
    better: dict[str, float] | None = None
    failed: int = 0

    def __getitem__(self, name: str) -> Interval:
        if name not in self.names:
            raise InputError(f"No interval of '{name}' here. {suggestion(name, self.names)}")
        i = self.names.index(name)
        return Interval(
            name,
            float(self.value[i]),
            float(self.lower[i]),
            float(self.upper[i]),
            self.lower_notes[i],
            self.upper_notes[i],
        )

    def __len__(self) -> int:
        return len(self.names)

    def to_frame(self) -> "pandas.DataFrame":
        """A table with the names as index."""
        import pandas

        columns = {key: getattr(self, key) for key in ("value", "lower", "upper")}
        columns |= {"lower_note": self.lower_notes, "upper_note": self.upper_notes}
        return pandas.DataFrame(columns, index=pandas.Index(self.names, name="name"))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        rows = []
        for name in self.names:
            one = self[name]
            away = [
                f"{limit - one.value:+.3g}" if np.isfinite(limit) else ""
                for limit in (one.lower, one.upper)
            ]
            notes = [
                f"{side} limit: {NOTES[note]}"
                for side, note in (("lower", one.lower_note), ("upper", one.upper_note))
                if note
            ]
            limits = (f"{one.value:.6g}", f"{one.lower:.6g}", f"{one.upper:.6g}")
            rows.append((name, *limits, *away, "; ".join(notes)))
        head = ("", "value", "lower", "upper", "", "", "")
        text = f"{100 * self.level:g} % intervals ({self.method})\n"
        text += text_table(head, rows, (0, 6))
        if self.better is not None:
            at = ", ".join(f"{name} = {value:.6g}" for name, value in self.better.items())
            text += f"\nA lower minimum lies at {at}. Fit again from there."
        if self.failed:
            text += f"\n{self.failed} replicates did not converge and are left out."
        return text
