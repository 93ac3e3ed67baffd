"""A short run of `scripts/attack.py`: kills, damage, a full disk and changing data, a few of each."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "attack.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
@pytest.mark.skipif(not SCRIPT.exists(), reason="the scripts are not here")
def test_a_few_attacks_lose_nothing_and_mix_nothing(tmp_path):
    numbers = {"kills": 2, "damage": 2, "disk": 2, "data": 2, "clusters": 0}
    words = [word for kind, count in numbers.items() for word in (f"--{kind}", str(count))]
    done = subprocess.run(
        [sys.executable, SCRIPT, "--seed", "5", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all: 8 tried, 8 survived, 0 lost, 0 mixed, 0 wrong" in done.stdout
    codes = {int(code) for code in re.findall(r"(-?\d+): \d+", done.stdout.splitlines()[-1])}
    assert codes <= {0, 1, 2, 3, 130, 143, -9}
