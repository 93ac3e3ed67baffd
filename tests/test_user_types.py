"""Type checkers of users take what runs: the blocks of README and `docs/`, and what is written every day."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
EVERY_DAY = """
import numpy as np
import pandas as pd
import xarray as xr

import varpro as vp

x = np.linspace(0, 10, 101)
y = np.exp(-x)
model = sum([vp.Exp("fast", tau=0.5), vp.Exp("slow", tau=vp.Param(5.0)), vp.Constant("c")])
fit = vp.fit(model, x, y)
value: float = fit["fast.tau"].value
error: float = fit["fast.tau"].stderr
number = float(fit["fast.tau"])
names: list[str] = list(fit)
open_ended = vp.fit(model, list(x), list(y), bounds={"fast.tau": (0, None)}, mask=[True] * 101)
columns = vp.fit(model, pd.Series(x), pd.Series(y), sigma=list(y))
data = xr.DataArray(y, dims="t", coords={"t": x})
labelled = vp.fit(model, data, dim="t")
together = vp.fit(model, x, data, sigma=data, mask=data > 0)
sets = vp.fit(model, {"a": (x, y), "b": (x, list(y))})
shared: float = sets["fast.tau"].value
batch = vp.fit_many(model, x, np.stack([y, y]), bounds={"fast.tau": (0, None)}, progress=True)
peak = vp.Gaussian("p", center=1.0, width=0.5) + vp.Kinetics("s", {"A->B": 2.0})
tight = vp.LevenbergMarquardt(ftol=0.0)
"""
# Both in one run each: a start of either takes longer than all files.
CHECKERS = {
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable],
    # Blocks of a page use a name again for another thing; what has a type of its own pyright looks at.
    "mypy": [
        *("-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent"),
        "--disable-error-code=assignment",
        # What it found of JAX and others it need not find again in the next run.
        f"--cache-dir={ROOT / '.cache' / 'mypy'}",
    ],
}


def blocks(folder):
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        if "_build" in page.parts:
            continue
        found = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
        if found:
            name = "page_" + re.sub(r"\W", "_", page.relative_to(ROOT).with_suffix("").as_posix())
            (folder / f"{name}.py").write_text("\n".join(found), "utf-8")
    (folder / "every_day.py").write_text(EVERY_DAY, "utf-8")
    assert len(list(folder.glob("*.py"))) > 10


@pytest.mark.parametrize("checker", CHECKERS)
def test_blocks_of_the_pages_pass(checker, tmp_path):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    blocks(tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(
        '{"typeCheckingMode": "basic", "reportMissingImports": false, "reportMissingModuleSource": false}'
    )
    files = sorted(path.name for path in tmp_path.glob("*.py"))
    files = [] if checker == "pyright" else files
    found = subprocess.run(
        [sys.executable, *CHECKERS[checker], *files], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout[-4000:]
