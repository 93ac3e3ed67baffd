"""Published answers that nobody in this project made: one JSON file per problem, and its reader."""

import dataclasses
import json
import pathlib

import numpy as np

_HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Oracle:
    """A problem, where to start, and what is known of its answer.

    `published` holds the numbers as strings, with the digits as they are printed: "values" and
    "standard_deviations" or "variances" in the order of `parameters`, "rss", "rsd", whichever the
    source gives. The properties are these numbers as floats.
    """

    name: str
    source: str
    parameters: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    starts: tuple[np.ndarray, ...]
    dof: int
    published: dict[str, str | list[str]]

    @property
    def start1(self) -> np.ndarray:
        return self.starts[0]

    @property
    def start2(self) -> np.ndarray:
        return self.starts[1]

    @property
    def certified(self) -> np.ndarray:
        return np.array(self.published["values"], dtype=float)

    @property
    def certified_sd(self) -> np.ndarray:
        return np.array(self.published["standard_deviations"], dtype=float)

    @property
    def rss(self) -> float:
        return float(self.published["rss"])

    @property
    def rsd(self) -> float:
        return float(self.published["rsd"])


def load(name: str) -> Oracle:
    """The problem of one file here, by its name in any case."""
    text = (_HERE / f"{name.lower()}.json").read_text(encoding="ascii")
    entry = json.loads(text)
    data = {key: np.array(column) for key, column in entry.pop("data").items()}
    return Oracle(
        **entry
        | {
            "parameters": tuple(entry["parameters"]),
            "starts": tuple(np.array(start) for start in entry["starts"]),
            "x": data["x"],
            "y": data["y"],
            "weights": data.get("weights"),
        }
    )
