"""What one data set sees of a fit of linked ones: its rows, its columns, and the errors of the whole."""

import dataclasses

import numpy as np

from .._problem.data import Data
from .._problem.linear_constraints import Linear
from .._results.fit_result import FitResult
from .._statistics.joint_covariance import Quantity, scaled, unit_covariance
from .._statistics.quantities import noise_variance
from ..basis import at_side, build_model
from .joined import Joined


def view_of(
    joint: FitResult, basis: Joined, d: int, rows: slice, data: Data, sides: np.ndarray
) -> FitResult:
    """Data set d of the fit, whose `rows` it has, with right-hand sides `sides`."""
    model = at_side(build_model(basis.only(d)), sides)
    columns = np.array(basis.places[d], int)
    n, k = len(joint.columns), joint.y.reshape(len(joint.y), -1).shape[1]

    def shaped(a: np.ndarray) -> np.ndarray:
        return a[:, 0] if data.vector else a

    def of_coef(a: np.ndarray) -> np.ndarray:
        return shaped(a.reshape(n, k)[columns][:, sides])

    def of_rows(a: np.ndarray) -> np.ndarray:
        return a.reshape(len(joint.y), k)[rows][:, sides]

    weights = joint.weights
    if weights is not None:
        weights = of_rows(weights) if weights.ndim == 2 else weights[rows]
    fitted, y = of_rows(joint.fitted), of_rows(joint.y)
    wide = 1.0 if weights is None else weights.reshape(len(y), -1)
    used = np.broadcast_to(np.asarray(wide) > 0, y.shape)
    chisq = float(np.sum(np.where(used, np.abs((y - fitted) * wide) ** 2, 0.0)))
    blocks = joint.optimum.blocks
    of_each = ("gram_inv", "null_coef", "unit_coef", "lost_coef", "held_coef")
    cut = {
        key: a[sides] if len(a := np.asarray(getattr(blocks, key))) > 1 else a for key in of_each
    }
    cut = {key: a[:, columns] for key, a in cut.items()}
    cut["gram_inv"] = cut["gram_inv"][:, :, columns]
    cut["sensitivity"] = np.asarray(blocks.sensitivity)[sides][:, columns]
    optimum = dataclasses.replace(joint.optimum, blocks=dataclasses.replace(blocks, **cut))
    complex_ = np.iscomplexobj(joint.coef)
    asked = [Quantity(joint.names[i], i) for i in joint.layout.free]
    for i, name in enumerate(model.columns):
        if complex_:
            parts = Quantity(f"{name}.real", i, 0), Quantity(f"{name}.imag", i, 0, imag=True)
            asked += parts
        else:
            asked.append(Quantity(name, i, 0))
    variance = noise_variance(joint)
    values = data.values
    names = data.names
    return dataclasses.replace(
        joint,
        columns=model.columns,
        coef=of_coef(joint.coef),
        x=data.x,
        y=shaped(values),
        fitted=shaped(fitted),
        weights=weights,
        cost=0.5 * chisq,
        chisq=chisq,
        num_data=data.effective,
        cov_names=tuple(one.label for one in asked),
        covariance=scaled(unit_covariance(optimum, asked), variance),
        model=model,
        coef_stderr=of_coef(joint.coef_stderr),
        optimum=optimum,
        num_linear=len(model.columns) * len(sides) * (2 if complex_ else 1),
        coef_at_bound=of_coef(joint.coef_at_bound),
        linear=Linear(real=joint.linear.real),
        pooled=(float(variance), joint.dof),
        costs=np.zeros(0),
        data_names=names,
        rank=min(joint.rank, len(model.columns)),
    )
