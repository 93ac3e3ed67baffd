"""What a benchmark says: one number with a key, a unit, and which way is better."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Metric:
    """One measured number.

    **Fields:** `suite`, `case` and `who` name it; `value` in `unit`; `better` is "lower" or "higher";
    `size` with `size_name` is what it is plotted against; `ratio` is the value over that of the peer
    `against` in the same run (its inverse where higher is better), so that below 1 we are ahead. A
    ratio survives a change of machine, a time does not.
    """

    suite: str
    case: str
    who: str
    value: float
    unit: str
    better: str = "lower"
    size: float | None = None
    size_name: str = ""
    ratio: float | None = None
    against: str = ""

    @property
    def key(self) -> str:
        return f"{self.suite}/{self.case}/{self.who}"


def related(metrics: Iterable[Metric], against: str) -> list[Metric]:
    """The same with ratios to the metric of the peer in the same case, where there is one."""
    metrics = list(metrics)
    peers = {one.case: one for one in metrics if one.who == against}
    out = []
    for one in metrics:
        peer = peers.get(one.case)
        if peer is not None and one.who != against:
            ratio = one.value / peer.value
            ratio = ratio if one.better == "lower" else 1 / ratio
            one = dataclasses.replace(one, ratio=ratio, against=against)
        out.append(one)
    return out


def write(path: pathlib.Path, machine: dict[str, Any], metrics: Iterable[Metric]) -> None:
    """Machine and metrics as JSON, one metric in a line, so that a new baseline shows as a diff."""
    rows = [json.dumps(_rounded(dataclasses.asdict(one))) for one in metrics]
    body = ",\n  ".join(rows)
    path.write_text(f'{{"machine": {json.dumps(machine)},\n "metrics": [\n  {body}\n ]}}\n')


def read(path: pathlib.Path) -> tuple[dict[str, Any], list[Metric]]:
    content = json.loads(path.read_text())
    return content["machine"], [Metric(**row) for row in content["metrics"]]


def worse(new: Iterable[Metric], old: Iterable[Metric], factor: float) -> list[str]:
    """Sentences on metrics of ours whose ratio to a peer is `factor` times worse than it was."""
    before = {one.key: one for one in old}
    found = []
    for one in new:
        was = before.get(one.key)
        if was is None or not one.who.startswith("varpro") or not (one.ratio and was.ratio):
            continue
        if one.ratio > factor * was.ratio:
            found.append(f"{one.key}: {one.ratio:.2f} of {one.against}, it was {was.ratio:.2f}")
    return found


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {k: float(f"{v:.4g}") for k, v in row.items() if isinstance(v, float)}
    return {k: v for k, v in (row | numbers).items() if v not in (None, "")}
