"""Which figures a run has, and what their axes say. The drawing is varpro's own."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import varpro as vp

from ..atomic_files import replace_file
from ..data.samples import Columns
from ..plan.plan import Plan
from .svg import settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Right-hand sides up to which each is a curve; more are maps and spectra.
_CURVES = 6
# Ratio of the largest value to the small ones from which on a logarithmic axis shows more.
_DECADES = 8.0
# Parameters up to which their correlations are shown beside another figure.
_FEW = 8

Draw = Callable[["Figure"], object]


class Picture(NamedTuple):
    """A figure of the report: its name in files, what it shows, and how wide it must be: "full" or
    "half" of a page; `log` has the same with logarithmic axes, where that shows more."""

    name: str
    title: str
    draw: Draw
    width: str = "half"
    log: Draw | None = None


def load_matplotlib() -> None:
    """Import what figures need, which can be done while a compiler is at work."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401


def labels_of(data: Columns, y: Sequence[str]) -> vp.Labels:
    """What the axes say, with units; `y` are the names that the configuration gives."""
    numbers = data.labels is not None and data.labels.dtype.kind in "iuf"
    name = y[0] if len(y) == 1 else "y"
    if is_pattern(name):
        name = data.y_names[0] if len(data.y_names) == 1 else "y"
    return vp.Labels(
        x=_axis(data.x_name, data.x_unit),
        y=_axis(name, data.y_unit),
        rhs=data.labels_name or "column",
        at=data.labels if numbers else None,
        names=None if numbers else data.y_names,
    )


def is_pattern(name: str) -> bool:
    """Whether a configuration means several columns by one word."""
    return any(sign in name for sign in "*?[")


def labels_in(plan: Plan) -> vp.Labels:
    """Those of the first, or only, data set of a plan."""
    name, data = next(iter(plan.sets.items()))
    section = plan.config.sections[name]
    return labels_of(data, data.y_names if section.imag else section.y)


def pictures(fit: vp.FitResult, labels: vp.Labels, panels: Sequence[str]) -> list[Picture]:
    """The figures of one data set."""
    many = fit.y.ndim == 2 and fit.y.shape[1] > 1
    found = [_main(fit, labels, panels)]
    if many:
        found.append(
            Picture(
                "components",
                "Components",
                lambda f: fit.plot_components(labels=labels, fig=f),
                "full",
            )
        )
    if fit.y.ndim == 2 and fit.y.shape[1] > _CURVES:
        found.append(
            Picture(
                "residuals",
                "All residuals",
                lambda f: fit.plot_residuals(panels=["x"], labels=labels, fig=f),
                "full",
            )
        )
    for panel, title in (("spread", "Distribution"), ("lags", "Autocorrelation")):
        found.append(
            Picture(
                panel,
                f"{title} of the residuals",
                lambda f, p=panel: fit.plot_residuals(panels=[p], labels=labels, fig=f),
            )
        )
    return found


def pictures_of_all(fit: vp.FitResult | vp.GlobalFit) -> list[Picture]:
    """The figures of the fit as a whole."""
    found = []
    free = fit.num_free if isinstance(fit, vp.GlobalFit) else len(fit.cov_names)
    if free > 1 and np.isfinite(fit.correlation).any():
        # The names of many parameters need room.
        width = "half" if free <= _FEW else "full"
        found.append(Picture("corr", "Correlations", lambda f: fit.plot_corr(fig=f), width))
    if fit.costs.size > 1:
        found.append(Picture("convergence", "Convergence", lambda f: fit.plot_convergence(fig=f)))
    return found


class Curves:
    """The data of many curves, of which `curves[index]` reads one."""

    def __init__(self, plan: Plan, fit: vp.BatchFit):
        self.plan, x = plan, plan.columns.x
        self.shape = (*fit.shape, len(x))

    def __getitem__(self, index: tuple[int, ...]) -> np.ndarray:
        source, data = self.plan.source, self.plan.columns
        if source is None:
            return data.y[:, index[0]] if data.y.ndim == 2 else data.y
        at: list[Any] = list(index)
        at.insert(source.dims.index(data.x_name), slice(None))
        return source[tuple(at)]


def pictures_of_batch(fit: vp.BatchFit, y: Any, labels: vp.Labels) -> list[Picture]:
    """The figures of many fits: maps of all, and three curves that stand for the rest."""
    found = []
    if len(fit.shape) <= 2:
        title = "Parameters, their errors, and how each fit ended"
        found.append(Picture("maps", title, lambda f: fit.plot_maps(labels=labels, fig=f), "full"))
    if fit.success.any():
        title = "A good, a middling and a bad curve"
        found.append(Picture("curves", title, lambda f: fit.plot(y, labels=labels, fig=f), "full"))
    return found


def write_maps(plan: Plan, fit: vp.BatchFit, path: Path) -> None:
    """`maps.png`, of one or two batch axes."""
    picture = pictures_of_batch(fit, None, labels_in(plan))[0]
    phases = len(fit.columns) if np.iscomplexobj(fit.coef) else 0
    rows = len(fit.names) + len(fit.columns) + 1 + -(-phases // 2)
    write_picture(picture, path, 7.4, 2.0 * rows + 0.4)


def write_png(plan: Plan, fit: vp.FitResult, path: Path) -> None:
    """`fit.png`, on white; also SVG and PDF by the name of the file."""
    main = _main(fit, labels_in(plan), plan.config.output.plots)
    write_picture(main, path, 7.0, 5.4)


def write_picture(picture: Picture, path: Path, width: float, height: float) -> None:
    """A figure as a file, whose format its name says."""
    from matplotlib.figure import Figure

    fixed = {"font.size": 11, "svg.hashsalt": "varpro"}
    # No date, so that no two runs differ.
    none: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with settings(fixed):
        fig = Figure(figsize=(width, height), layout="constrained")
        picture.draw(fig)
        kind, image = path.suffix[1:], io.BytesIO()
        fig.savefig(image, format=kind, dpi=160, facecolor="white", metadata=none.get(kind))
    replace_file(path, image.getvalue())


def write_all_figures(
    plan: Plan, fit: vp.FitResult | vp.GlobalFit, folder: Path, kind: str
) -> list[Path]:
    """All figures of the report as files, `corr.png`, of several data sets also `fit.NAME.png`."""
    written = []
    for name, picture in _all_figures(plan, fit, kind):
        width, height = (7.0, 5.4) if picture.width == "full" else (5.0, 3.8)
        write_picture(picture, folder / name, width, height)
        written.append(folder / name)
    return written


def names_of_figures(plan: Plan, fit: vp.FitResult | vp.GlobalFit, kind: str) -> list[str]:
    """The files that `write_all_figures` writes."""
    return [name for name, _ in _all_figures(plan, fit, kind)]


def _all_figures(
    plan: Plan, fit: vp.FitResult | vp.GlobalFit, kind: str
) -> Iterator[tuple[str, Picture]]:
    sets = fit.sets if isinstance(fit, vp.GlobalFit) else {"": fit}
    panels = plan.config.output.plots or ("fit", "components", "residuals")
    found = [(picture, "") for picture in pictures_of_all(fit)]
    for name, one in sets.items():
        labels = labels_in(plan.only(name))
        found += [(picture, name) for picture in pictures(one, labels, panels)]
    for picture, name in found:
        yield ".".join(part for part in (picture.name, name, kind) if part), picture


def _main(fit: vp.FitResult, labels: vp.Labels, panels: Sequence[str]) -> Picture:
    def draw(fig: "Figure", log: str = "") -> "Figure":
        return fit.plot(
            log=log,
            curves="fit" in panels,
            components="components" in panels,
            residuals="residuals" in panels,
            labels=labels,
            fig=fig,
        )

    log = _log_axes(fit) if "fit" in panels else ""
    return Picture(
        "fit", "Data and fit", draw, "full", (lambda fig: draw(fig, log)) if log else None
    )


def _log_axes(fit: vp.FitResult) -> str:
    """The axes on which a logarithmic scale shows more."""
    if np.iscomplexobj(fit.y):
        return ""

    def spans(values: np.ndarray, percent: float) -> bool:
        positive = values[np.isfinite(values) & (values > 0)]
        if positive.size < 0.8 * values.size or not positive.size:
            return False
        return float(positive.max()) > _DECADES * float(np.percentile(positive, percent))

    y = spans(fit.y[fit.weights_of_all > 0], 20)
    x = np.asarray(fit.x) if isinstance(fit.x, np.ndarray) and fit.x.ndim == 1 else None
    # Times over several decades, spaced as such.
    far = x is not None and x.min() > 0 and x.max() > 100 * float(np.median(x))
    return ("x" if far else "") + ("y" if y else "")


def _axis(name: str, unit: str) -> str:
    # Columns without a header are counted.
    name = f"column {name}" if name.isdigit() else name
    return f"{name} [{unit}]" if unit else name
