"""How much a program is optimised: little where running it is cheap, for compiling is what one waits for.

XLA takes one to two seconds of one core for the program of a fit, and a fifth of that without LLVM's
optimisation, after which loops over samples run three times slower and everything else as before.
Which of them is chosen depends on nothing but an estimate of the work, so that the same call has the
same bits every time. Measured on the CPU; other devices have the options of their own.

The emitters of fused loops double the time of compiling at every level, and made no program faster: not
those of a fit of 100 to 65,000 samples, nor those of 4096 curves, normal or Poisson.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

import jax

# Entries of columns, of their derivatives and of data for one evaluation up to which nothing is
# optimised: then a run takes a few milliseconds longer, and a few hundred runs as long as LLVM.
QUICK = 2**13

_PLAIN: dict[str, Any] = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
_QUICK: dict[str, Any] = _PLAIN | {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_enable_concurrency_optimized_scheduler": False,
}

_FULL: contextvars.ContextVar[bool] = contextvars.ContextVar("varpro_full", default=False)


@contextlib.contextmanager
def fully_optimised() -> Iterator[None]:
    """Within this context every program is optimised, however little it has to do."""
    token = _FULL.set(True)
    try:
        yield
    finally:
        _FULL.reset(token)


def asked_in_full() -> bool:
    """Whether optimised programs are asked for."""
    return _FULL.get()


def options(entries: float, full: bool) -> dict[str, Any]:
    """The options of XLA for a program that computes so many entries at each evaluation."""
    if jax.default_backend() != "cpu":
        return {}
    return dict(_PLAIN if full or entries > QUICK else _QUICK)


def compiled(lowered: jax.stages.Lowered, wanted: dict[str, Any]) -> jax.stages.Compiled:
    """Compile with these options, without those that the installed XLA does not know."""
    if not wanted:
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=wanted)
    except Exception:  # of a class that differs between versions
        known = {name: value for name, value in wanted.items() if _is_known(name, value)}
        if len(known) == len(wanted):
            raise
        return lowered.compile(compiler_options=known or None)


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options={name: value})
    except Exception:
        return False
    return True
