"""Sphinx: pages in Markdown, examples that are run, docstrings as they are written."""

import os
import pathlib
import sys

# Pages are built without looking anything up elsewhere, so warnings are ours alone.
HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

import varpro  # noqa: E402

# What the tests and former builds compiled is used again.
jax.config.update("jax_compilation_cache_dir", str(HERE.parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


project = "varpro"
author = "The varpro developers"
copyright = "The varpro developers"
version = release = varpro.__version__

extensions = [
    "sphinx.ext.autodoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "markdown_docstrings",
    "mathtext",
    "public_names",
    "configuration",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "gallery/*.md5", "gallery/*.zip"]

myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "capture_repr": (),
    "show_memory": False,
    "reset_modules": ("matplotlib", "alone.alone"),
    "image_scrapers": ("matplotlib",),
    # Without pictures the examples are not run: the tests do that.
    "plot_gallery": os.environ.get("VARPRO_PICTURES", "1") != "0",
    "only_warn_on_example_error": False,
    "thumbnail_size": (400, 260),
    "copyfile_regex": r"data/.*\.csv",
}

html_math_renderer = "mathtext"
html_theme = "furo"
html_title = f"varpro {version}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["varpro.css"]
