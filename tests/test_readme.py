"""What the README shows is what happens."""

import contextlib
import io
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_snippets_run_and_print_what_is_shown():
    namespace, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for code in blocks("python"):
            exec(code, namespace)
    (shown,) = blocks("text")
    # How many steps it takes may differ between machines by rounding.
    assert printed.getvalue().splitlines()[1:] == shown.splitlines()[1:]
    assert printed.getvalue().startswith("varpro fit: converged")
    # Michaelis-Menten: the means of Bates and Watts' treated pairs; their K is 0.064 (0.008).
    assert namespace["fit"].success and 0.05 < namespace["fit"]["K"].value < 0.08


def test_the_configuration_shown_is_the_file_it_names():
    (shown,) = blocks("yaml")
    lines = (ROOT / "configs" / "gauss1.yaml").read_text(encoding="utf-8").splitlines()
    assert shown.splitlines() == [line for line in lines if not line.startswith("#")]


def test_the_files_it_names_exist():
    named = re.findall(r"(?:scripts|configs|tests)/[\w./]*\w|[A-Z]+\.md|constraints\.txt", README)
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []
