"""What names and numbers of a data file look like."""

import re
from collections.abc import Sequence

import numpy as np

from .found import Asked

SIGMA = re.compile(
    r"(?i)(sigma|std|sd|esd|stdev|stddev|err|error|unc|uncertainty|dy|d_y|[yi]_?err(or)?|e_?y|u_?y|weights?"
    r"|.*[ _](err|error|sigma|std|sd|unc|stderr))"
)
X = re.compile(
    r"(?i)(x|t|tau|time|times|zeit|delay|delays|wavelength|wavelengths|lambda|wl|nu|wavenumber|wavenumbers"
    r"|energy|freq|frequency|field|position|ppm|shift|raman[ _]?shift|angle|two ?theta|2 ?theta|2th|tth|q"
    r"|elapsed([ _]time)?|(experiment|retention|acquisition|run|total|r\.)[ _.]?time|timestamp|datetime|date|m/z|mass|channel|step[ _]?time|2[- ]theta"
    r"|voltage|potential|temperature|temp|dose|conc|concentration|distance|depth|binding[ _]energy|hours?"
    r"|minutes?|seconds?|days?|bvals?|(time|delay|t|x|wavelength)[ _].{1,4})"
)
_COUNTED = re.compile(r"(?i).*(count|photon|intens|adc|events|cts|zähl).*")


def noise_of(y: np.ndarray, name: str, asked: Asked) -> str | None:
    if asked.noise is not None:
        return asked.noise
    return "poisson" if not np.iscomplexobj(y) and _counts(y, name) else None


def monotonic(x: np.ndarray) -> bool:
    if np.iscomplexobj(x):
        return False
    x = x[np.isfinite(x)]
    step = np.diff(x)
    return x.size > 2 and bool((step > 0).all() or (step < 0).all())


def _counts(y: np.ndarray, name: str) -> bool:
    """Whether y looks like counted photons: whole numbers, and many of them or by name."""
    finite = y[np.isfinite(y)]
    if not _COUNTED.fullmatch(name) and finite.size < 50:
        return False
    return bool(
        finite.size
        and (finite >= 0).all()
        and (finite == np.round(finite)).all()
        and finite.max() > 5
    )


def shortlist(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
