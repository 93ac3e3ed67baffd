"""Every configuration in `configs/` gives the published answer."""

import json
import math
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"

ROOT2 = math.sqrt(2)

# Published value and standard error of each parameter, and the digits that are asked for. NIST:
# Statistical Reference Datasets, certified. The others as cited in the configurations.
PUBLISHED = {
    "gauss1": (
        6,
        {
            "background.rate": (1.0497276517e-02, 1.1406289017e-04),
            "first.center": (67.481111276, 0.10460593412),
            "first.width": (23.129773360 / ROOT2, 0.17439951146 / ROOT2),
            "second.center": (178.99805021, 0.12436988217),
            "second.width": (18.389389025 / ROOT2, 0.20134312832 / ROOT2),
            "background": (98.778210871, 0.57527312730),
            "first": (100.48990633, 0.58831775752),
            "second": (71.994503004, 0.62622793913),
        },
    ),
    "lanczos3": (
        5,
        {
            "slow.rate": (0.95498101505, 0.097041624475),
            "middle.rate": (2.9515951832, 0.10766312506),
            "fast.rate": (4.9863565084, 0.034436403035),
            "slow": (0.086816414977, 0.017197908859),
            "middle": (0.84400777463, 0.041488663282),
            "fast": (1.5825685901, 0.058371576281),
        },
    ),
    "mgh17": (
        6,
        {
            "slow.rate": (0.012867534640, 4.4861358114e-04),
            "fast.rate": (0.022122699662, 8.9471996575e-04),
            "offset": (0.37541005211, 2.0723153551e-03),
            "slow": (1.9358469127, 0.22031669222),
            "fast": (-1.4646871366, 0.22175707739),
        },
    ),
    "oleary_rust": (
        4,
        {
            "osc.a1": (1.0132255, math.sqrt(2.6925e-4)),
            "osc.a2": (2.4968675, math.sqrt(8.5784e-5)),
            "osc.a3": (4.0625148, math.sqrt(8.2272e-4)),
            "osc.c1": (5.8416357, math.sqrt(4.4887e-3)),
            "osc.c2": (1.1436854, math.sqrt(4.3803e-3)),
        },
    ),
    "puromycin": (
        3,
        {"kinetics.Vm": (212.7, 6.947), "kinetics.K": (0.06412, 0.008281)},
    ),
    "spectra": (3, {"fast.rate": (5.500e-02, 2.257e-05), "slow.rate": (5.001e-03, 4.464e-06)}),
}


def test_every_configuration_has_a_published_answer_here():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_worked_problem_gives_the_published_answer(name, tmp_path, plain):
    digits, published = PUBLISHED[name]
    done = plain(CONFIGS / f"{name}.yaml", "--out", tmp_path / "run", "--quiet")
    assert done.exit_code == 0, done.stderr
    found = json.loads((tmp_path / "run" / "result.json").read_text())["parameters"]
    for parameter, (value, stderr) in published.items():
        one = found[parameter]
        assert one["value"] == pytest.approx(value, rel=10.0**-digits), parameter
        assert one["stderr"] == pytest.approx(stderr, rel=10.0 ** -min(digits, 4)), parameter
