"""Examples share a process when the pages are built; each is to find it as if it ran alone."""

import builtins
import pathlib

import jax

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def alone(gallery_conf, fname):
    """Called by sphinx-gallery before each example."""
    jax.config.update("jax_enable_x64", False)
    # A script knows its own file; sphinx-gallery does not tell it.
    builtins.__file__ = str(EXAMPLES / pathlib.Path(fname).name)
