"""Turns NIST's `.dat` files into the files of this folder: `from_nist.py Gauss1.dat ...`.

The originals: NIST/ITL Statistical Reference Datasets, nonlinear regression, public domain,
https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml.
"""

import json
import pathlib
import re
import sys

SOURCE = "NIST/ITL Statistical Reference Datasets, nonlinear regression, {}.dat"


def convert(text: str) -> dict[str, object]:
    """What the file says, in our layout; published numbers keep the digits as they are printed."""
    (name,) = re.findall(r"Dataset Name: +(\w+)", text)
    rows = [line.split() for line in re.findall(r"^ *b\d+ *=(.*)$", text, re.MULTILINE)]
    start1, start2, values, deviations = zip(*rows, strict=True)
    # The file's only other "Data:" starts the description.
    table = text[text.rindex("Data:") :].splitlines()
    assert table[0].split() == ["Data:", "y", "x"], table[0]
    pairs = [[float(word) for word in line.split()] for line in table[1:] if line.strip()]
    assert len(pairs) == int(_one(text, "Number of Observations")), name
    return {
        "name": name,
        "source": SOURCE.format(name),
        "parameters": [f"b{i + 1}" for i in range(len(rows))],
        "starts": [[float(word) for word in start] for start in (start1, start2)],
        "published": {
            "values": values,
            "standard_deviations": deviations,
            "rss": _one(text, "Residual Sum of Squares"),
            "rsd": _one(text, "Residual Standard Deviation"),
        },
        "dof": int(_one(text, "Degrees of Freedom")),
        "data": {"x": [x for _, x in pairs], "y": [y for y, _ in pairs]},
    }


def _one(text: str, label: str) -> str:
    (found,) = re.findall(rf"^{label}: +(\S+)", text, re.MULTILINE)
    return found


def main() -> None:
    here = pathlib.Path(__file__).parent
    for path in map(pathlib.Path, sys.argv[1:]):
        problem = convert(path.read_text(encoding="ascii"))
        text = json.dumps(problem, indent=1)
        # One list a line: a number a line is unreadable.
        text = re.sub(
            r"\[[^][{}]*\]",
            lambda m: " ".join(m[0].split()).replace("[ ", "[").replace(" ]", "]"),
            text,
        )
        (here / f"{path.stem.lower()}.json").write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
