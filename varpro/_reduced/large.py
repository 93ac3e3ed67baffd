"""What the reduced problems of operators offer beside those of every search."""

import abc

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from .._problem.operator_problem import OperatorProblem
from ..linalg import AbstractIterative, Accuracy, Preconditioner, Rows
from .abstract import AbstractResumed


class AbstractLarge(AbstractResumed):
    """The reduced problem of an `OperatorProblem`, by inner solves."""

    problem: eqx.AbstractVar[OperatorProblem]
    inner: eqx.AbstractVar[AbstractIterative]

    @abc.abstractmethod
    def polished(
        self, alpha: Float[Array, " p"], point: PyTree
    ) -> tuple[Float[Array, " M"], PyTree]:
        """As `resumed`, with coefficients as exact as they go, for the end of a search."""

    @abc.abstractmethod
    def free(self, point: PyTree) -> Bool[Array, " n"] | None:
        """Which coefficients may move about the point, None for all."""

    @abc.abstractmethod
    def tangent(
        self, alpha: Float[Array, " p"], point: PyTree
    ) -> tuple[Rows, Preconditioner | None]:
        """B and its preconditioner for coefficients that may move about the point."""

    @abc.abstractmethod
    def jacobian_to(
        self, alpha: Float[Array, " p"], point: PyTree, accuracy: Accuracy
    ) -> Float[Array, "M p"]:
        """The Jacobian by inner solves of this accuracy."""
