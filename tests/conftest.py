"""How every test runs: float64, type checks in the package, fixed seeds."""

import gc
import importlib.util
import itertools
import os
import pathlib
import zlib

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_CACHE = _ROOT / ".cache"
_SEED = int(os.environ.get("VARPRO_TEST_SEED", "0"))

# Commands that tests start keep their caches here too, not in the home of whoever runs the tests.
os.environ["XDG_CACHE_HOME"] = str(_CACHE / "xdg")

# By `config.update` and not by environment variables: a command that a test starts must find JAX
# as its user would.
jax.config.update("jax_enable_x64", True)
# Compiling is most of the time of the tests; workers and sessions share what they compiled.
jax.config.update("jax_compilation_cache_dir", str(_CACHE / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Before the first import of varpro: annotations of shapes and types are checked at every call.
# Not in `app`, where pydantic and typer read the annotations and check by rules of their own, and
# not at doors, whose own answer to wrong types is what tests look at.
_OWN_CHECKS = {
    *("app", "__main__", "_fit", "_figures", "_results.fit_result", "_single.fit_single"),
    *("_problem.data", "_problem.compress", "_problem.checks", "_problem.model_like"),
    *("_problem.options", "_starts.declare"),
    *("_global.fit_global", "_global.parameter_names", "_parameters.tie"),
    *("_batch.fit_many", "_batch.labelled", "_batch.per_curve", "_batch.prepare", "_batch.starts"),
    *("_dmd.dmd", "_dmd.constraints", "_dmd.initial"),
}
_PACKAGE = pathlib.Path(importlib.util.find_spec("varpro").origin).parent
_FILES = [path.relative_to(_PACKAGE).with_suffix("") for path in _PACKAGE.rglob("*.py")]
_MODULES = {".".join(path.parts) for path in _FILES if path.name != "__init__"}
_CORE = sorted(
    name for name in _MODULES if name not in _OWN_CHECKS and name.split(".")[0] not in _OWN_CHECKS
)
jaxtyping.install_import_hook([f"varpro.{name}" for name in _CORE], "beartype.beartype")

hypothesis.settings.register_profile("varpro", derandomize=_SEED == 0, deadline=None)
hypothesis.settings.load_profile("varpro")


def pytest_report_header() -> str:
    return f"varpro: VARPRO_TEST_SEED={_SEED}"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name and VARPRO_TEST_SEED (default 0) alone."""
    return np.random.default_rng([_SEED, zlib.crc32(request.node.nodeid.encode())])


# A process may have so many mappings of memory, and every compiled program has some: beyond the limit
# the compiler crashes. Programs that are forgotten come back from the cache on disk.
_MAPPINGS, _LOOK_EVERY = 30_000, 20


_DONE = itertools.count()


@pytest.fixture(autouse=True)
def _forget_programs():
    yield
    if next(_DONE) % _LOOK_EVERY == 0 and os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps", "rb") as file:
            mappings = sum(1 for _ in file)
        if mappings > _MAPPINGS:
            jax.clear_caches()
            gc.collect()
