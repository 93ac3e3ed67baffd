"""How a search can end: names, sentences, and what counts as converged.

Bad numbers are a `RESULTS` member carried in the solution, inside `jit` and `vmap` too.
"""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, PyTree

# The ground floor has no other modules.
ArrayIn = Array | np.ndarray


class RESULTS(optx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """How a fit ended; extends `optimistix.RESULTS`."""

    successful = ""
    adjoint_mismatch = (
        "The transpose of the operator disagrees with its product: <A v, u> and <v, A^T u> differ for random v "
        "and u. Look at both (lineax.FunctionLinearOperator makes the transpose by itself), and whether the "
        "product is linear: a constant belongs into offset=."
    )
    linear_max_steps_reached = (
        "The inner solver for the coefficients did not converge within its steps. Give it more "
        "(max_steps), a preconditioner, a larger rtol, or a stronger penalty."
    )
    strength_not_found = (
        "No strength of the penalty between 1e-8 and 1e4 times that at which penalty and data weigh the same "
        "leaves a residual of the size of the noise. Look at the weights, and at the model."
    )


class STOP(eqx.Enumeration):
    """Which test ended a run."""

    running = "No test was met: the limit of steps came first."
    ftol = "The last step and the best possible step change the cost by less than ftol."
    xtol = "The last step and the full Gauss-Newton step are shorter than xtol."
    gtol = "The residual is orthogonal to the Jacobian of the free parameters within gtol."
    floor = "The rounding floor is reached: further steps are lost in the rounding of the residual."
    fit = "The fit is perfect: the residual is zero compared with the one at the start."
    stuck = (
        "No step reduces the cost although the gradient is not zero: two parameters have run "
        "together, or one has run off. Of a function of your own, look at its derivative, too."
    )
    vanished = "A parameter is where the residual no longer depends on it."
    merged = (
        "Two components have run together: they have one shape, and coefficients of opposite sign that are "
        "far larger than their sum. The data tell of fewer components, or other starts do of more."
    )
    nonfinite = "The residual or its Jacobian is not finite at the start or at every trial point."


_RESULTS = (
    *("failed", "successful", "nonlinear_max_steps_reached", "nonlinear_divergence", "nonfinite"),
    *("singular", "breakdown", "stagnation"),
    *("adjoint_mismatch", "linear_max_steps_reached", "strength_not_found"),
)
# With these the test that ended the search says nothing.
_OF_OPERATORS = _RESULTS[-3:]
_TESTS = ("", *"running ftol xtol gtol floor fit stuck vanished nonfinite merged".split())


class Status(eqx.Module):
    """How a search ended: numbers that a compiled program returns, and the words for them on the host.

    The numbers are made where the members of `RESULTS` and `STOP` are, for comparing members on the host
    takes longer than a fit.

    **Fields:** `result` and `test`, codes of `RESULTS` and of `STOP`; `num_steps`, `num_residuals` and
    `num_jacobians`, -1 where the solver does not count them; `costs` (h,), the cost after each step, None
    where it is not kept.
    """

    result: Int[ArrayIn, "..."]
    test: Int[ArrayIn, "..."]
    num_steps: Int[ArrayIn, "..."]
    num_residuals: Int[ArrayIn, "..."]
    num_jacobians: Int[ArrayIn, "..."]
    costs: Float[ArrayIn, "... h"] | None = None

    @classmethod
    def of(cls, result: PyTree, stats: Mapping[str, PyTree]) -> "Status":
        """The status of a search with this member of `RESULTS` and these statistics of its solver."""
        return cls(
            _code(result, RESULTS, _RESULTS),
            _code(stats["stop"], STOP, _TESTS) if "stop" in stats else jnp.array(0),
            stats["num_steps"],
            stats.get("num_residuals", jnp.array(-1)),
            stats.get("num_jacobians", jnp.array(-1)),
            stats.get("costs"),
        )

    def followed_by(
        self, converged: Bool[Array, ""], finite: Bool[Array, ""], steps: Int[Array, ""]
    ) -> "Status":
        """The status of this search and another one that began where it ended, so that the second alone
        tells whether the end is a minimum."""
        failed = jnp.where(finite, self.code("nonlinear_max_steps_reached"), self.code("nonfinite"))
        return Status(
            jnp.where(converged, self.code("successful"), failed),
            jnp.where(converged, _TESTS.index("gtol"), _TESTS.index("running")),
            self.num_steps + steps,
            jnp.where(jnp.asarray(self.num_residuals) < 0, -1, self.num_residuals + steps),
            jnp.where(jnp.asarray(self.num_jacobians) < 0, -1, self.num_jacobians + steps),
        )

    def plus(self, later: "Status") -> "Status":
        """This search, on the host, with the steps of a later one that began where it ended."""

        def sums(mine, more):
            return np.asarray(-1 if mine < 0 or more < 0 else mine + more)

        return dataclasses.replace(
            self,
            num_steps=np.asarray(self.num_steps + later.num_steps),
            num_residuals=sums(self.num_residuals, later.num_residuals),
            num_jacobians=sums(self.num_jacobians, later.num_jacobians),
        )

    @staticmethod
    def code(name: str) -> int:
        """The code of a member of `RESULTS`."""
        return _RESULTS.index(name)

    @staticmethod
    def names(codes: np.ndarray) -> np.ndarray:
        """The names of several members of `RESULTS`, of the shape of their codes."""
        return np.array(_RESULTS)[codes]

    @property
    def as_merged(self) -> "Status":
        """The same search, the end of which is no optimum, for two components have run together."""
        result, test = self.code("nonlinear_divergence"), _TESTS.index("merged")
        return dataclasses.replace(self, result=np.asarray(result), test=np.asarray(test))

    @property
    def as_vanished(self) -> "Status":
        """The same search, the end of which is no optimum, for a component is nowhere in the data."""
        result, test = self.code("nonlinear_divergence"), _TESTS.index("vanished")
        return dataclasses.replace(self, result=np.asarray(result), test=np.asarray(test))

    @property
    def name(self) -> str:
        """The member of `RESULTS`; "failed" for one that has no name here."""
        return _RESULTS[int(self.result)]

    @property
    def converged(self) -> bool:
        return self.name == "successful"

    @property
    def stop(self) -> str:
        """The member of `STOP`, empty for solvers that have no such test, and where it says nothing."""
        return "" if self.name in _OF_OPERATORS else _TESTS[int(self.test)]

    @property
    def message(self) -> str:
        """How the run ended, in one sentence."""
        if self.name == "nonlinear_max_steps_reached":
            return (
                f"The limit of {int(self.num_steps)} steps came before any test was met. Give better "
                "starts or a larger max_steps."
            )
        if self.stop:
            return STOP[getattr(STOP, self.stop)]
        return "" if self.name == "failed" else RESULTS[getattr(RESULTS, self.name)]

    @property
    def history(self) -> Float[np.ndarray, " s"]:
        """The costs of the steps that were done."""
        return np.zeros(0) if self.costs is None else np.asarray(self.costs[: int(self.num_steps)])


class CurveStatus:
    """How a curve of a batch ended, by code; `NAMES` are in the order of the codes."""

    WAITING, SUCCESSFUL, FLOOR, STUCK, NONFINITE, MAX_STEPS, BAD_DATA, NO_DATA = range(8)
    UNDETERMINED = 8
    NAMES = (
        *("waiting", "successful", "floor", "stuck", "nonfinite", "max_steps", "bad_data"),
        *("no_data", "undetermined"),
    )

    @staticmethod
    def converged(codes: Int[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Which curves converged: to a minimum, or as near to it as rounding allows."""
        return np.isin(codes, (CurveStatus.SUCCESSFUL, CurveStatus.FLOOR))


def _code(member: PyTree, kind: type[eqx.Enumeration], names: tuple[str, ...]) -> Int[Array, ""]:
    """The index among `names` of a member of an enumeration; 0 if it is none of `names[1:]`."""
    return jnp.argmax(
        jnp.stack([jnp.array(False), *(member == getattr(kind, n) for n in names[1:])])
    )
