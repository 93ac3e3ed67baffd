"""The benchmark runner: what counts as worse, and what it writes. Times themselves are no test."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scripts" / "bench"))
from metrics import Metric, read, related, worse, write  # noqa: E402


def rows(ours, peer, better="lower"):
    unit = "ms" if better == "lower" else "curves/s"
    pair = (
        Metric("s", "c", who, value, unit, better) for who, value in (("varpro", ours), ("p", peer))
    )
    return related(pair, "p")


@pytest.mark.parametrize(("ours", "peer", "better"), [(2.0, 4.0, "lower"), (4.0, 2.0, "higher")])
def test_a_ratio_below_one_means_that_we_are_ahead(ours, peer, better):
    mine, other = rows(ours, peer, better)
    assert mine.ratio == 0.5 and mine.against == "p" and other.ratio is None


def test_only_a_ratio_that_grew_beyond_the_factor_is_worse():
    old = rows(1.0, 1.0)
    assert worse(rows(1.4, 1.0), old, 1.5) == []
    assert worse(rows(3.0, 2.5), old, 1.5) == []  # a slower machine
    (said,) = worse(rows(2.0, 1.0), old, 1.5)
    assert said == "s/c/varpro: 2.00 of p, it was 1.00"
    assert worse(rows(0.2, 1.0, "higher"), rows(1.0, 1.0, "higher"), 1.5) != []


def test_a_baseline_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "baseline.json"
    write(path, {"cores": 2}, rows(1.0, 4.0))
    assert read(path) == ({"cores": 2}, rows(1.0, 4.0))
    assert len(path.read_text().splitlines()) == 5


def test_the_page_draws_every_suite_with_sizes_and_lists_every_number(tmp_path, monkeypatch):
    import page

    monkeypatch.setattr(page, "FOLDER", tmp_path)
    metrics = [
        Metric("single", f"m={m}", who, m / 100, "ms", size=float(m), size_name="samples")
        for m in (100, 1000)
        for who in ("varpro.fit", "scipy")
    ]
    page.render({"cores": 2}, metrics)
    assert (tmp_path / "single.svg").read_text().count("varpro.fit") == 1
    assert (tmp_path / "measured.txt").read_text().count("| single: m=") == 4
    first = (tmp_path / "single.svg").read_bytes()
    page.render({"cores": 2}, metrics)
    assert (tmp_path / "single.svg").read_bytes() == first
