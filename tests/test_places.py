"""Static places in arrays are those of NumPy's indices, without a scatter in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varpro._places import summed_at, taken, with_values

PLACES = ([], [0], [3], [0, 1, 2, 3, 4], [1, 2], [0, 2, 4], [4, 1], [2, 0, 1, 4, 3])


@pytest.mark.parametrize("places", PLACES, ids=str)
@pytest.mark.parametrize("more", [(), (2,)], ids=["vector", "matrix"])
def test_what_is_taken_and_put_is_that_of_numpy(places, more, rng):
    array, values = rng.normal(size=(5, *more)), rng.normal(size=(len(places), *more))
    at = np.array(places, int)
    wanted = array.copy()
    wanted[at] = values
    ours = jax.jit(lambda a, v: (taken(a, places), with_values(a, places, v)))
    first, second = ours(array, values)
    np.testing.assert_array_equal(first, array[at])
    np.testing.assert_array_equal(second, wanted)
    np.testing.assert_array_equal(taken(array, places), array[at])
    assert "scatter" not in ours.lower(array, values).as_text()


@pytest.mark.parametrize("places", [*PLACES, [1, 1, 3, 1], [0, 0, 0, 0, 0]], ids=str)
def test_sums_at_places_are_those_of_numpy(places, rng):
    terms = rng.normal(size=(len(places), 3))
    wanted = np.zeros((5, 3))
    np.add.at(wanted, np.array(places, int), terms)
    ours = jax.jit(lambda terms: summed_at(terms, places, 5))
    # Sums of a few terms, added in another order.
    np.testing.assert_allclose(ours(terms), wanted, rtol=1e-13, atol=1e-15)
    assert "scatter" not in ours.lower(terms).as_text()


def test_derivatives_follow_the_places(rng):
    array, values = rng.normal(size=5), rng.normal(size=2)
    by_values = jax.jacrev(lambda v: with_values(array, [3, 1], v))(values)
    np.testing.assert_array_equal(by_values, np.eye(5)[:, [3, 1]])
    by_array = jax.jacfwd(lambda a: with_values(a, [3, 1], jnp.asarray(values)))(array)
    np.testing.assert_array_equal(by_array, np.diag([1.0, 0.0, 1.0, 0.0, 1.0]))
