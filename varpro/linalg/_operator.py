"""Matrices too large to write down: operators known by their products, as functions of flat vectors.

`A v` is what an operator of lineax does, and `A^H u` is made of its transpose, `conj(A^T conj(u))`: of an
operator that maps real vectors to complex ones that is the adjoint in the real inner product
`Re <u, v>`, which is the one used here throughout.
"""

import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Bool, Inexact, PyTree

from .._errors import InputError


def _frozen(structure: PyTree) -> tuple[tuple[jax.ShapeDtypeStruct, ...], Any]:
    leaves, treedef = jax.tree.flatten(structure)
    return tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves), treedef


class FunctionPair(lx.AbstractLinearOperator):
    """A linear operator by two functions: `mv`, v -> A v, and `transpose_mv`, u -> A^T u.

    For products whose transpose JAX cannot make, or for which a faster one is known, such as a projector
    and its back projector. Where it can, `lineax.FunctionLinearOperator` needs the first function alone.
    `varpro.solve` compares the two by a dot test, `<A v, u> = <v, A^T u>` for random v and u.

    **Arguments:**

    - `mv`: of a pytree like `in_structure`.
    - `transpose_mv`: of a pytree like what `mv` returns; the transpose without conjugation.
    - `in_structure`: a pytree of arrays or of `jax.ShapeDtypeStruct`.

    **Raises:** `InputError` if `transpose_mv` does not return what `mv` takes.
    """

    forward: Callable[[PyTree], PyTree]
    backward: Callable[[PyTree], PyTree]
    input: tuple = eqx.field(static=True)
    output: tuple = eqx.field(static=True)

    def __init__(
        self,
        mv: Callable[[PyTree], PyTree],
        transpose_mv: Callable[[PyTree], PyTree],
        in_structure: PyTree,
    ):
        self.input = _frozen(in_structure)
        given = jax.tree.unflatten(*self.input[::-1])
        # Arrays that the functions close over become part of the operator.
        self.forward = eqx.filter_closure_convert(mv, given)
        self.output = _frozen(jax.eval_shape(self.forward, given))
        found = jax.tree.unflatten(*self.output[::-1])
        self.backward = eqx.filter_closure_convert(transpose_mv, found)
        back = _frozen(jax.eval_shape(self.backward, found))
        if _shapes(back) != _shapes(self.input):
            raise InputError(
                f"transpose_mv returns {described(back)}, but mv takes {described(self.input)}."
            )

    def mv(self, vector: PyTree) -> PyTree:
        """A v."""
        return self.forward(vector)

    def as_matrix(self) -> Array:
        """The matrix, column by column. Only for what is small."""
        return lx.FunctionLinearOperator(self.forward, self.in_structure()).as_matrix()

    def transpose(self) -> "FunctionPair":
        """The same two functions the other way round."""
        return FunctionPair(self.backward, self.forward, self.out_structure())

    def in_structure(self) -> PyTree:
        """What `mv` takes, as `jax.ShapeDtypeStruct`."""
        return jax.tree.unflatten(*self.input[::-1])

    def out_structure(self) -> PyTree:
        """What `mv` returns, as `jax.ShapeDtypeStruct`."""
        return jax.tree.unflatten(*self.output[::-1])


@lx.linearise.register(FunctionPair)
def _(operator: FunctionPair) -> FunctionPair:
    return operator


@lx.materialise.register(FunctionPair)
def _(operator: FunctionPair) -> lx.AbstractLinearOperator:
    return lx.materialise(lx.FunctionLinearOperator(operator.forward, operator.in_structure()))


@lx.conj.register(FunctionPair)
def _(operator: FunctionPair) -> FunctionPair:
    def conjugated(function):
        return lambda v: jax.tree.map(jnp.conj, function(jax.tree.map(jnp.conj, v)))

    forward, backward = conjugated(operator.forward), conjugated(operator.backward)
    return FunctionPair(forward, backward, operator.in_structure())


for _property in (
    *(lx.is_symmetric, lx.is_diagonal, lx.is_tridiagonal, lx.has_unit_diagonal),
    *(lx.is_lower_triangular, lx.is_upper_triangular),
    *(lx.is_positive_semidefinite, lx.is_negative_semidefinite),
):
    _property.register(FunctionPair)(lambda operator: False)


def is_operator(value: Any) -> bool:
    """Whether a basis that returns this is no array: an operator of lineax or a sparse matrix of JAX."""
    return isinstance(value, lx.AbstractLinearOperator) or _is_sparse(value)


def foreign(value: Any) -> str | None:
    """What to return in place of a matrix or product that JAX knows nothing of, in a sentence; None for what
    is none of these."""
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if is_operator(value) or isinstance(value, np.ndarray | jax.Array | jax.ShapeDtypeStruct):
        return None
    if hasattr(value, "tocoo"):
        return f"a {kind}, of which JAX knows nothing. Return jax.experimental.sparse.BCOO.from_scipy_sparse(matrix)."
    if hasattr(value, "matvec") and hasattr(value, "rmatvec"):
        return (
            f"a {kind}, of which JAX knows nothing. Return vp.linalg.FunctionPair(product, transpose, structure) of "
            "functions written with jax.numpy."
        )
    if callable(value):
        return (
            "a function. Return lineax.FunctionLinearOperator(function, jax.ShapeDtypeStruct(shape, float)), "
            "with the shape of the coefficients."
        )
    return None


def _is_sparse(value: Any) -> bool:
    # Whoever has a sparse matrix has imported the module, which takes its time.
    sparse = sys.modules.get("jax.experimental.sparse")
    return sparse is not None and isinstance(value, sparse.JAXSparse)


def as_operator(value: Any, sides: int | None = None) -> lx.AbstractLinearOperator:
    """An operator; a sparse matrix as one of vectors, or with `sides` of that many columns at a time."""
    if not _is_sparse(value):
        return value
    n = value.shape[1]
    shape = (n,) if sides is None else (n, sides)
    # JAX transposes a BCSR in no other way.
    value = value.to_bcoo() if hasattr(value, "to_bcoo") else value
    transposed = value.T
    return FunctionPair(
        lambda v: value @ v, lambda u: transposed @ u, jax.ShapeDtypeStruct(shape, value.dtype)
    )


class Flat(eqx.Module):
    """Pytrees of one structure as vectors."""

    leaves: tuple[jax.ShapeDtypeStruct, ...] = eqx.field(static=True)
    treedef: Any = eqx.field(static=True)

    @classmethod
    def of(cls, structure: PyTree) -> "Flat":
        """Vectors for pytrees like `structure`."""
        return cls(*_frozen(structure))

    @property
    def dtype(self) -> np.dtype:
        return jnp.result_type(*self.leaves)

    @property
    def size(self) -> int:
        return sum(int(np.prod(leaf.shape)) for leaf in self.leaves)

    @property
    def structure(self) -> PyTree:
        return jax.tree.unflatten(self.treedef, self.leaves)

    def ravel(self, tree: PyTree) -> Array:
        """The numbers of a pytree, one leaf after the other."""
        leaves = [jnp.ravel(leaf).astype(self.dtype) for leaf in jax.tree.leaves(tree)]
        return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)

    def unravel(self, vector: Array) -> PyTree:
        """The pytree of these numbers."""
        out, first = [], 0
        for leaf in self.leaves:
            size = int(np.prod(leaf.shape))
            out.append(vector[first : first + size].reshape(leaf.shape))
            first += size
        return jax.tree.unflatten(self.treedef, out)


class Products(eqx.Module):
    """An operator as two functions of vectors, of the numbers of `input` and of `output`."""

    operator: lx.AbstractLinearOperator
    input: Flat
    output: Flat

    @classmethod
    def of(cls, operator: lx.AbstractLinearOperator) -> "Products":
        """The products of an operator, whose inner state is made once."""
        flats = Flat.of(operator.in_structure()), Flat.of(operator.out_structure())
        return cls(lx.linearise(operator), *flats)

    def forward(self, v: Inexact[Array, " n"]) -> Inexact[Array, " m"]:
        """`A v`."""
        return self.output.ravel(self.operator.mv(self.input.unravel(v)))

    def adjoint(self, u: Inexact[Array, " m"]) -> Inexact[Array, " n"]:
        """`A^H u`."""
        moved = self.operator.T.mv(self.output.unravel(u.astype(self.output.dtype).conj()))
        return self.input.ravel(moved).conj()


def real_dot(a: PyTree, b: PyTree) -> Array:
    """`Re <a, b>` of vectors, or of pytrees of them."""
    terms = [
        jnp.vdot(x, y).real for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    return sum(terms[1:], terms[0])


def signs(key: Array, size: int, dtype: np.dtype) -> Array:
    """Random numbers 1 and -1, also in the imaginary part of complex ones."""
    real = jnp.finfo(dtype).dtype
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return jax.random.rademacher(key, (size,), real)
    parts = jax.random.rademacher(key, (2, size), real)
    return jax.lax.complex(parts[0], parts[1])


def adjoint_agrees(products: Products) -> Bool[Array, ""]:
    """The dot test: `Re <A v, u> = Re <v, A^H u>` for random v and u, within the rounding of the sums.

    True where a product is not finite, which is a failure of another name.
    """
    keys = jax.random.split(jax.random.key(0))
    v = signs(keys[0], products.input.size, products.input.dtype)
    u = signs(keys[1], products.output.size, products.output.dtype)
    ahead, back = products.forward(v), products.adjoint(u)
    size = jnp.sqrt(real_dot(ahead, ahead) * real_dot(u, u))
    size = size + jnp.sqrt(real_dot(back, back) * real_dot(v, v))
    gap = jnp.abs(real_dot(ahead, u) - real_dot(v, back))
    # Of honest pairs the gap is some units of rounding of `size`; of a transpose that is wrong in a
    # thousandth of its entries it is 1e-3 / sqrt(m) of it.
    return ~(gap > float(jnp.finfo(size.dtype).eps) ** 0.7 * size)


def _shapes(frozen: tuple) -> tuple:
    return tuple(leaf.shape for leaf in frozen[0]), frozen[1]


def described(frozen: tuple) -> str:
    """A structure in words."""
    tree = jax.tree.unflatten(frozen[1], [str(leaf.shape) for leaf in frozen[0]])
    return f"shape {tree}" if isinstance(tree, str) else f"shapes {tree}"
