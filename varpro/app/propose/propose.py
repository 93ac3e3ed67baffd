"""A configuration for a data file: columns, noise and a model that converged before it is written."""

import contextlib
import dataclasses
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import varpro as vp

from ..atomic_files import refuse_inputs, replace_file
from ..paths import as_path
from ..plan.fit import fit_plan
from ..plan.make_plan import make_plan
from ..scaffold.starter import Starter, quoted, refuse_place, starter_text, written_to
from .as_lines import model_lines
from .choose import WORTH, Choice, choose, settled, tried
from .columns import find_columns
from .found import Asked, Found
from .samples import Samples, of_one_curve, samples_of

_FREQUENCY = re.compile(r"(?i)\W?(freq|omega|ω)")
# How many models are fitted until one converges, how many others are named; how many of the curves that are
# fitted one by one are tried.
_FITS, _OTHERS, _SOME = 3, 3, 5
# Samples below which no parameter is worth what AICc asks for it.
_ENOUGH = 10
# What a model must explain of the variance; less may be noise alone.
_LEFT = 0.9
# How much more than the best model one may leave that is written in its place.
_WORSE = 10.0
# And what it must explain of the variance.
_HALF = 0.5
# Products of samples, parameters and columns that a fit from the starts in the file may take, which are at its
# optimum; and the steps that these are at least and at most.
_WORK, _STEPS = 2e8, (50, 256)
# The standard error of a parameter, relative to its value, from which it is not determined.
_LOOSE = 1.0
# What AICc of each column must gain by parameters of its own.
_WORTH = 10.0


def write_proposal(config: Path, source: Path, overwrite: bool, asked: Asked) -> list[str]:
    """Write a configuration for a file of data; returns what to tell the user.

    **Raises:** `InputError` if the configuration exists, if the file cannot be read, or with a question
    where no model of it is sound.
    """
    as_path(str(config), "new")
    if not source.is_dir():
        refuse_inputs(config, [source], "new")
    refuse_place(config, overwrite)
    found = find_columns(source, asked)
    refuse_inputs(config, [source], "new")  # a folder that is data
    if np.iscomplexobj(found.y) and _FREQUENCY.match(found.keys.get("x", "")):
        raise vp.InputError(
            f"{source}: complex numbers against a frequency ({found.said[0]}) are no sum of waves, and no other model of "
            "them is proposed. Write one with a function of your own, --x NAME --y NAME for real columns, or transform "
            "them to times."
        )
    samples = samples_of(found)
    if found.wells:  # experiments of their own
        samples = of_one_curve(samples)
    ranked = choose(samples)
    path = os.path.relpath(source.absolute(), config.parent.absolute())
    data = {"path": quoted(Path(path).as_posix())} | found.keys
    failures: list[str] = []
    flat = next((c for c in ranked if c.candidate.words == "a constant"), None)
    # Where a model has parameters that cannot be determined, one with fewer is looked for.
    most = math.inf
    for choice in ranked:
        if choice is flat or choice.left > _LEFT or len(failures) == _FITS:
            break
        if choice.count >= most or choice.left > _WORSE * ranked[0].left:
            continue
        if failures and choice.left > _HALF:
            continue
        settling = settled(choice, samples)
        if settling is None:
            failures.append(f"{choice.candidate.words}: its fit does not converge")
            continue
        choice = settling
        separate = found.each or _each_for_itself(found, choice, samples)
        responses, model = model_lines(choice.candidate, choice.starts)
        starter = Starter(
            config.stem,
            data,
            responses,
            model,
            noise="poisson" if found.noise == "poisson" else None,
            each=separate,
        )
        text = starter_text(starter)
        reason = _unsound(text, config, found, choice, separate)
        if reason is None:
            replace_file(config, text)
            return [
                *found.said,
                *_said(choice, ranked, failures, separate, found),
                written_to(config),
            ]
        failures.append(f"{choice.candidate.words}: {reason}")
        if "cannot be determined" in reason:
            most = choice.count
    few = len(samples.x) < _ENOUGH
    raise vp.InputError(_question(source, found, failures, bool(ranked) and flat is ranked[0], few))


def _said(
    choice: Choice, ranked: list[Choice], failures: list[str], separate: bool, found: Found
) -> Iterator[str]:
    verb = "Of the models that converge AICc chooses" if failures else "AICc chooses"
    explained = f"; it explains {100 * (1 - choice.left):.4g}% of the variance"
    yield f"{verb} {choice.candidate.words}{explained}. It was fitted from the starts in the file."
    if failures:
        yield f"Tried before: {'; '.join(failures)}"
    # Of one kind from several starts the best is told.
    kinds = {c.candidate.words: c for c in reversed(ranked) if c is not choice}
    for words in (choice.candidate.words, *(text.partition(": ")[0] for text in failures)):
        kinds.pop(words, None)
    others = [c for c in ranked if kinds.get(c.candidate.words) is c][:_OTHERS]
    if others:
        listed = ", ".join(
            f"{c.candidate.words} (AICc {c.aicc - choice.aicc:+.0f})" for c in others
        )
        rule = f"; more parameters must lower it by {WORTH:.0f}"
        rule = rule if any(c.aicc < choice.aicc for c in others) else ""
        yield f"What else there was: {listed}{rule}"
    if separate and not found.each:
        yield "Every column is fitted for itself (share: none): they do not share their parameters."
    if found.noise != "poisson" and found.sigma is None and not found.each:
        yield "noise: normal, of one size for all samples"


def _question(source: Path, found: Found, failures: list[str], flat: bool, few: bool) -> str:
    tried_text = f" Tried: {'; '.join(failures)}." if failures else ""
    count = len(found.x)
    why = (
        f"{count} samples are too few for AICc to tell one model from another"
        if few
        else "y is not told from noise around its mean"
        if flat
        else "no sum of decays, growth, waves, peaks, steps or powers describes y and converges"
    )
    return " ".join(
        f"{source}: {why} ({'; '.join(found.said)}).{tried_text} Which columns are meant, and which noise? "
        "--x NAME, --y NAME, --noise poisson or normal; or write the configuration without --from.".split()
    )


def _each_for_itself(found: Found, choice: Choice, samples: Samples) -> bool:
    """Whether columns have parameters of their own: wells of a plate, say."""
    if found.wells:
        return bool(choice.starts)
    if samples.y.shape[1] < 2 or not choice.starts or np.iscomplexobj(samples.y):
        return False
    # Some of many tell it.
    columns = np.linspace(0, samples.y.shape[1] - 1, min(samples.y.shape[1], 4)).round().astype(int)
    separate = shared = 0.0
    for j in columns:
        one = dataclasses.replace(samples, y=samples.y[:, j : j + 1])
        own = tried(dataclasses.replace(choice.candidate, known=choice.starts), one)
        # Of a noise of its own a column would gain by that alone: so has that of the shared fit.
        held = dataclasses.replace(
            choice.candidate, known=choice.starts, fixed=tuple(choice.starts)
        )
        with_all = tried(held, one)
        if own is None:
            return False
        separate += own.aicc
        shared += np.inf if with_all is None else with_all.aicc
    return separate < shared - _WORTH * len(columns)


def _unsound(text: str, config: Path, found: Found, choice: Choice, separate: bool) -> str | None:
    """Why a configuration is not to be written; None if it can be read and its fit converges."""
    try:
        with _beside(config, text) as path:
            plan = make_plan(str(path))
            if separate:
                return _stuck(plan.model, found)
            size = found.y.size * max(
                len(choice.starts) * len(choice.candidate.model.column_names), 1
            )
            fit = fit_plan(plan, max_steps=int(np.clip(_WORK / size, *_STEPS)))
    except vp.InputError as error:
        # Of the file beside, which is gone, nobody needs the place.
        return re.sub(r"^\S*\.varpro-\S+ ", "", str(error).splitlines()[0])
    if not fit.success:
        reason = fit.message.partition(". ")[0].rstrip(".")
        return f"its fit does not converge ({reason})" if reason else "fails"
    assert isinstance(fit, vp.FitResult)
    loose = []
    for name in fit.names:
        estimate = fit[name]
        assert isinstance(estimate, vp.Estimate)
        value, error = float(estimate.value), float(estimate.stderr)
        if estimate.fixed or name.endswith((".center", ".eta", ".beta")):
            continue
        if np.iscomplexobj(found.y) and name.endswith(".rate"):
            value = max(value, 1.0 / float(np.ptp(found.x)))  # a tone that does not decay in sight
        if not np.isfinite(error) or error > _LOOSE * abs(value):
            loose.append(name)
    if loose:
        return f"its {', '.join(loose[:3])} cannot be determined"
    return None


def _stuck(model: vp.basis.AbstractBasis, found: Found) -> str | None:
    """How many of some curves do not converge with parameters of their own; None if it is one of five at most."""
    count = found.y.shape[1]
    some = np.unique(np.linspace(0, count - 1, min(count, _SOME)).round().astype(int))
    failed = []
    for j in some:
        curve = found.y[:, j]
        whole = np.isfinite(curve) & np.isfinite(found.x)
        noise = "normal" if found.each or found.noise != "poisson" else "poisson"
        fit = vp.fit(model, found.x[whole], curve[whole], noise=noise)
        failed += [] if fit.success else [fit.message.rstrip(".")]
    if 5 * len(failed) <= len(some):
        return None
    many = (
        f"{len(failed)} of {len(some)} curves that were tried do" if count > 1 else "its fit does"
    )
    return f"{many} not converge ({failed[0]})" if failed[0] else f"{many} not converge"


@contextlib.contextmanager
def _beside(config: Path, text: str) -> Iterator[Path]:
    """A file beside a configuration, so that its paths are the same; gone again afterwards."""
    handle, name = tempfile.mkstemp(".yaml", ".varpro-", config.absolute().parent)
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        yield path
    finally:
        path.unlink(missing_ok=True)
