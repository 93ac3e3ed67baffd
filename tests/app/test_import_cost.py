"""What importing the command line costs: nothing that only a command needs."""

import subprocess
import sys

NEEDED_LATER = {"matplotlib", "xarray", "pandas", "pydantic", "rich", "jinja2", "ruamel"}


def test_the_help_needs_none_of_the_packages_of_a_run():
    code = f"import sys, varpro.app.cli; sys.exit(str({NEEDED_LATER!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_a_fit_of_a_table_needs_no_package_for_arrays_or_figures():
    code = (
        "import sys, varpro.app.runs.jobs, varpro.app.report; "
        "sys.exit(str({'matplotlib', 'xarray', 'pandas', 'dask', 'distributed', 'jinja2', 'rich'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"
