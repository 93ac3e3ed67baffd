"""When two searches have found the same optimum, whatever the processor they ran on.

A search of `fit` ends where a full Gauss-Newton step would lower the cost by less than `ftol = 1e-14`
of itself. With `cost = dof s^2 / 2` such a step is shorter than `1e-7 sqrt(dof)` standard errors, so
that two programs, whose roundings differ, agree within 1e-5 of them for any dof in these tests.
"""

import numpy as np

SIGMAS = 1e-5


def assert_same_optimum(found, expected, sigmas=SIGMAS, size=1.0):
    """Values in units of their standard errors; `found` has coefficients `size` times as large."""
    for name in ("alpha", "coef"):
        factor = size if name == "coef" else 1.0
        one, other = (np.asarray(getattr(fit, name)) for fit in (found, expected))
        error = np.asarray(getattr(expected, f"{name}_stderr"))
        # What is fixed or on its bound has no error and is the same number in both.
        scale = np.where(np.isfinite(error) & (error > 0), error, np.abs(other) * 1e-10 + 1e-300)
        gap = np.abs(one / factor - other) / scale
        assert np.all(gap <= sigmas), f"{name}: {gap.max():.1e} standard errors apart"
