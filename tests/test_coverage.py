"""95 % intervals hold the truth in 95 % of simulated data sets; all cases in scripts/bench/coverage.py."""

import numpy as np
import pytest
from coverage_cases import CASES, band, coverage


@pytest.mark.parametrize("name", ["exponentials", "many right-hand sides"])
def test_intervals_and_bands_hold_the_truth_as_often_as_they_say(name):
    found = coverage(CASES[name], 300)
    # So wide that one of a hundred such tests would fail with exact intervals.
    low, high = band(300, 0.999)
    assert found.failed == 0
    assert np.all((low <= found.covariance) & (found.covariance <= high)), found
    profile = found.profile[: len(found.names) - 2]
    assert np.all((low <= profile) & (profile <= high)), found


def test_the_profile_holds_where_the_covariance_is_known_to_fail():
    # One decay seen over little more than its lifetime: the curve bends in its parameters.
    found = coverage(CASES["strongly curved"], 1000)
    low, high = band(1000)
    three = slice(0, 3)
    assert found.names[three] == ("decay.tau", "decay", "bg")
    assert np.all(found.covariance[three] < low), found
    assert np.all((low <= found.profile[three]) & (found.profile[three] <= high)), found
