"""How every test runs: float64, fixed seeds, a bounded number of programs and a bounded memory."""

import collections
import ctypes
import gc
import importlib.util
import os
import pathlib
import resource
import sys
import zlib

import numpy as np
import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_CACHE = _ROOT / ".cache"
_SEED = int(os.environ.get("VARPRO_TEST_SEED", "0"))
_TYPES = os.environ.get("VARPRO_TEST_TYPES", "0") == "1"

# With VARPRO_TEST_TYPES=1 annotations of shapes and types are checked at every call. That takes a sixth
# of the time, so one job of CI does it for all.
# Not in `app`, where pydantic and typer read the annotations and check by rules of their own, and
# not at doors, whose own answer to wrong types is what tests look at.
_OWN_CHECKS = {
    *(
        "app",
        "__main__",
        "_fit",
        "_figures",
        "_results.fit_result",
        "_results.inference",
        "_single.fit_single",
    ),
    *(
        "_problem.data",
        "_problem.compress",
        "_problem.checks",
        "_problem.model_like",
        "_problem.within",
    ),
    *("_problem.options", "_starts.declare"),
    *("_global.data_sets", "_global.fit_global", "_global.parameter_names", "_parameters.tie"),
    *("_batch.fit_many", "_batch.labelled", "_batch.per_curve", "_batch.prepare", "_batch.starts"),
    *("_dmd.dmd", "_dmd.constraints", "_dmd.initial"),
}


def pytest_configure(config: pytest.Config) -> None:
    # A process that only hands out tests to workers needs nothing of this.
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        _set_up()


def _set_up() -> None:
    """JAX, hypothesis and types, before the first import of varpro."""
    import hypothesis
    import jax

    # Commands that tests start keep their caches here too, not in the home of whoever runs the tests.
    os.environ["XDG_CACHE_HOME"] = str(_CACHE / "xdg")
    # By `config.update` and not by environment variables: a command that a test starts must find JAX
    # as its user would.
    jax.config.update("jax_enable_x64", True)
    # Compiling is most of the time of the tests; workers and sessions share what they compiled.
    jax.config.update("jax_compilation_cache_dir", str(_CACHE / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # Each operation of a program notes where in the code it comes from, which nobody reads here.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    jax.monitoring.register_event_duration_secs_listener(_program_made)
    if _TYPES:
        import jaxtyping

        package = pathlib.Path(importlib.util.find_spec("varpro").origin).parent
        files = [path.relative_to(package).with_suffix("") for path in package.rglob("*.py")]
        modules = {".".join(path.parts) for path in files if path.name != "__init__"}
        core = {m for m in modules if not {m, m.split(".")[0]} & _OWN_CHECKS}
        jaxtyping.install_import_hook([f"varpro.{m}" for m in sorted(core)], "beartype.beartype")
    hypothesis.settings.register_profile("varpro", derandomize=_SEED == 0, deadline=None)
    hypothesis.settings.load_profile("varpro")


def pytest_collection_finish() -> None:
    # What is there now stays: to search it for garbage again and again takes a tenth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 100, 100)


def pytest_report_header() -> str:
    return f"varpro: VARPRO_TEST_SEED={_SEED} VARPRO_TEST_TYPES={int(_TYPES)}"


@pytest.fixture(scope="session", autouse=True)
def all_programs():
    """Tests that share a program find it, however many others there were between them."""
    from varpro._programs import program

    program.MOST = 1000


@pytest.fixture(autouse=True)
def figures_closed():
    """Where one test imported pyplot, it knows the figures of all that follow."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name and VARPRO_TEST_SEED (default 0) alone."""
    return np.random.default_rng([_SEED, zlib.crc32(request.node.nodeid.encode())])


# ---------------------------------------------------------------- programs

# The time of the tests is that of their programs: of a fit, tracing takes half a second, reading from the
# cache on disk a fifth, compiling a second. So programs.txt says how many each file of tests may make, and
# a run in which one makes a quarter more fails. What another file made before in the same process is not
# made again, in any order and on any number of workers; what a file made and `_forget_programs` forgot is,
# which depends on the memory of the machine, and is what the quarter is for.
_FEW = 5  # of a file that is not in the table
_MORE = 1.25
_TABLE = {
    path: int(number)
    for number, path in map(str.split, (_ROOT / "tests" / "programs.txt").read_text().splitlines())
}
# Files whose fits have models and shapes in common run one behind the other on one worker, which traces
# and compiles them once. The number in the table is that of a file alone.
_FAMILIES = (
    *(("test_fit", "test_report", "test_store", "test_diagnostics", "test_compare"),),
    *(("test_profile", "test_bootstrap", "test_bands"), ("test_batch", "test_batch_more")),
    *(("app/test_run", "app/test_report", "app/test_commands", "app/test_folder"),),
)
_FAMILY = {f"tests/{name}.py": family[0] for family in _FAMILIES for name in family}
_made: collections.Counter[str] = collections.Counter()
_allowed: dict[str, int] = {}
_current = [""]


def _program_made(event: str, duration: float, **_: object) -> None:
    # Once for each program, whether it was compiled or read from the cache on disk.
    if event == "/jax/core/compile/backend_compile_duration":
        _made[_current[0]] += 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--programs", action="store_true", help="show how many programs each file made"
    )


def _file(item: pytest.Item) -> str:
    return item.path.relative_to(_ROOT).as_posix()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The table is sorted by time: what takes the longest begins, and workers end together.
    place = {path: i for i, path in enumerate(_TABLE)}
    first = {}
    for path, family in _FAMILY.items():
        first[family] = min(first.get(family, len(place)), place.get(path, len(place)))

    def order(item: pytest.Item) -> tuple:
        path = _file(item)
        mine = place.get(path, len(place))
        return first.get(_FAMILY.get(path, ""), mine), mine, path

    items.sort(key=order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """With `--dist loadfile`: a family is handed out as one file is."""
    from xdist.scheduler import LoadFileScheduling

    class ByFamily(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = super()._split_scope(nodeid)
            return _FAMILY.get(path, path)

    return ByFamily(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None):
    _current[0] = _file(item)
    _allowed[_current[0]] = _TABLE.get(_current[0], _FEW)
    try:
        return (yield)
    finally:
        after = "" if nextitem is None else _file(nextitem)
        family = _FAMILY.get(_current[0], _current[0])
        _forget_programs(_FAMILY.get(after, after) != family)
        _current[0] = ""


# ---------------------------------------------------------------- memory

# Every compiled program keeps some 16 MB and 300 mappings of memory, and beyond 65,530 mappings the
# compiler crashes. Programs that are forgotten come back from the cache on disk.
_MOST = 2.5  # GB, for each worker at any time
_SOON, _LATE, _MAPPINGS = 0.9, 1.8, 40_000


def _forget_programs(end: bool) -> None:
    """At the end of a file or family where memory grows, within it where it is nearly used up."""
    held = _resident()
    if held < _SOON or not (end or held > _LATE or _mappings() > _MAPPINGS):
        return
    import jax

    from varpro._programs import program

    program.clear()
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> float:
    if not os.path.exists("/proc/self/statm"):
        return _peak()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e9


def _mappings() -> int:
    if not os.path.exists("/proc/self/maps"):
        return 0
    with open("/proc/self/maps", "rb") as file:
        return sum(1 for _ in file)


def _peak() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e9 if sys.platform == "darwin" else 1e6)


# ---------------------------------------------------------------- what a run used

_used: dict[str, dict] = {}


def pytest_testnodedown(node, error) -> None:
    """Of pytest-xdist, in the process that starts the workers."""
    if "used" in getattr(node, "workeroutput", {}):
        _used[node.gateway.id] = node.workeroutput["used"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    mine = {"peak": _peak(), "made": dict(_made), "allowed": dict(_allowed)}
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["used"] = mine
        return
    if not _used:
        _used["this process"] = mine
    if _wrong() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _wrong() -> list[str]:
    """What a worker used beyond what is allowed, in sentences."""
    wrong = []
    for who, used in _used.items():
        if used["peak"] > _MOST:
            wrong.append(f"{who} used {used['peak']:.2f} GB of memory; {_MOST} GB are allowed.")
        for path, made in used["made"].items():
            allowed = used["allowed"].get(path, made)
            if made > _MORE * allowed:
                wrong.append(
                    f"{path} made {made} programs, and programs.txt allows {allowed}. Share shapes and"
                    " fits among its tests, or allow it more."
                )
    return wrong


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    total = sum(sum(used["made"].values()) for used in _used.values())
    peaks = ", ".join(f"{who} {used['peak']:.2f} GB" for who, used in sorted(_used.items()))
    terminalreporter.write_line(f"Peak memory: {peaks}. Programs: {total}.")
    if config.getoption("--programs"):
        found = collections.Counter()
        for used in _used.values():
            found.update(used["made"])
        for path, made in found.most_common():
            terminalreporter.write_line(f"{made:6d} {path}")
    for sentence in _wrong():
        terminalreporter.write_line(sentence, red=True, bold=True)
