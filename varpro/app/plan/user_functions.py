"""The functions of a user's own that a configuration names by import path."""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import varpro as vp

from ..caller import refuse_code
from ..config.messages import nearest
from ..config.model import CustomComponent
from ..signals import Terminated


def import_function(
    component: CustomComponent, folder: Path
) -> tuple[Callable[..., Any], Path | None]:
    """The function that a custom component names, and the file it stands in."""
    module_name, _, name = component.function.partition(":")
    refuse_code(f"kind: custom imports and runs '{component.function}'")
    root = os.path.normpath(folder / component.folder)
    with blaming(component.function, root), _first_on_path(root):
        module = _module_in(root, module_name) or _installed(module_name, root)
    function = getattr(module, name, None)
    source = getattr(module, "__file__", None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise vp.InputError(
            f"{source or module_name} has no function '{name}'. {nearest(name, known)}"
        )
    return function, Path(source) if source else None


def _module_in(root: str, name: str) -> Any:
    """A module file of the folder, whatever else of that name is already imported."""
    importlib.invalidate_caches()
    found = None if "." in name else importlib.machinery.PathFinder.find_spec(name, [root])
    if found is None or found.origin is None:
        return None
    # Dataclasses look their module up in `sys.modules`, where its own name may be taken.
    private = f"varpro_user_{name}"
    spec = importlib.util.spec_from_file_location(private, found.origin)
    if spec is None or spec.loader is None:
        return None
    module = sys.modules[private] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _installed(name: str, root: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        hint = f" Write {name.removesuffix('.py')}, without .py." if name.endswith(".py") else ""
        raise vp.InputError(f"no module '{name}' in {root}, nor installed.{hint}") from None


@contextlib.contextmanager
def _first_on_path(root: str) -> Iterator[None]:
    """Imports see a folder first; afterwards last, where it hides nothing of anybody else's."""
    # A run must not leave __pycache__ beside the user's files.
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
        sys.dont_write_bytecode = written
        if root not in sys.path:
            sys.path.append(root)


@contextlib.contextmanager
def blaming(function: str, root: str) -> Iterator[None]:
    """Whatever the user's own code raises is said in one line with the place it came from, `sys.exit` too;
    and what it prints does not mix with a result that is printed."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, Terminated):  # by whoever runs it
        raise
    except BaseException as raised:
        # The library says what was raised, but not where.
        inner = raised.__cause__ if isinstance(raised, vp.InputError) else raised
        if inner is None or isinstance(inner, vp.InputError):
            raise
        error = inner
        frames = traceback.extract_tb(error.__traceback__)
        own = [(f.filename, f.lineno) for f in frames if f.filename.startswith(root + os.sep)]
        if isinstance(error, SyntaxError):
            own = [(error.filename, error.lineno)] if error.lineno else []
        at = f" at {own[-1][0]}:{own[-1][1]}" if own else ""
        first = (str(error).strip().splitlines() or ["no message."])[0]
        raise vp.InputError(f"{function} raised {type(error).__name__}{at}: {first}") from error
