"""What a run leaves: the plan, the fit, and where it was written."""

from pathlib import Path
from typing import NamedTuple

import varpro as vp

from .plan import Plan

Fit = vp.FitResult | vp.GlobalFit


class Outcome(NamedTuple):
    plan: Plan
    fit: Fit
    folder: Path


class BatchOutcome(NamedTuple):
    plan: Plan
    fit: vp.BatchFit
    folder: Path

    @property
    def code(self) -> int:
        """The exit code: 0, 3 where some curves failed, 1 where all did."""
        good = self.fit.success
        return 0 if good.all() else 3 if good.any() else 1
