"""Many local peaks by tiles: the answers of the dense solve, and who gets them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import varpro as vp
from varpro._search import local_plan
from varpro.linalg import Bordered, factored

PEAKS, SAMPLES = 60, 4500


def case(seed=0, wide=0.06):
    """Peaks a unit apart that overlap with their neighbours, on a line."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0.0, PEAKS, SAMPLES)
    centers = np.arange(PEAKS) + 0.5 + rng.uniform(-0.3, 0.3, PEAKS)
    widths, heights = rng.uniform(0.5, 1.0, PEAKS) * wide * 3, rng.uniform(0.5, 2.0, PEAKS)
    shape = np.exp(-0.5 * ((x[:, None] - centers) / widths) ** 2)
    y = 0.3 + 0.01 * x + shape @ heights + 0.01 * rng.normal(size=x.size)
    peaks = [
        vp.Gaussian(f"g{i}", center=c + rng.uniform(-0.02, 0.02), width=w * rng.uniform(0.9, 1.1))
        for i, (c, w) in enumerate(zip(centers, widths, strict=True))
    ]
    return vp.Polynomial("line", degree=1) + sum(peaks[1:], peaks[0]), x, y


def by_tiles(solution):
    """Only a dense solve knows rank and condition number."""
    return "rank" not in solution.stats


@pytest.fixture(scope="module")
def solved():
    model, x, y = case()
    weights = np.where(np.arange(SAMPLES) % 7 == 0, 0.0, 1.5)
    y = np.where(weights > 0, y, np.nan)
    order = np.random.default_rng(1).permutation(SAMPLES)
    local = vp.solve(model, y[order], args=x[order], weights=weights[order])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_plan, "_COMPONENTS", 10**9)
        dense = vp.solve(model, y[order], args=x[order], weights=weights[order])
    return local, dense


def test_tiles_give_the_dense_optimum(solved):
    local, dense = solved
    assert by_tiles(local)
    assert not by_tiles(dense)
    assert local.result == vp.RESULTS.successful == dense.result
    np.testing.assert_allclose(local.cost, dense.cost, rtol=1e-12)
    # Both searches end where a step is 1e-10 of alpha; they differ by what is left from there.
    for name, value in dense.value.items():
        np.testing.assert_allclose(local.value[name], value, rtol=1e-8)
    np.testing.assert_allclose(local.coef, dense.coef, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(local.resid, dense.resid, atol=1e-8)


def test_tiles_give_the_dense_coefficients_at_one_alpha(solved):
    model, x, y = case()
    built = vp.basis.build_model(model)
    alpha = np.array([p.init for p in model.parameters.values()])
    names = list(model.parameters)
    alpha = alpha[[names.index(name) for name in built.names]]
    group = local_plan.local_group(built)
    assert group is not None
    tiles = local_plan.tiles_for(built, group, x, alpha)
    assert tiles is not None
    problem = local_plan._tiled(built, group, x, y, np.ones_like(x), tiles)
    point, placed = jax.jit(lambda problem, alpha: problem.evaluate(alpha))(
        jax.tree.map(jnp.asarray, problem), jnp.asarray(alpha)
    )
    phi = np.asarray(built.evaluate(x, jnp.asarray(alpha)))
    coef = np.linalg.lstsq(phi, y, rcond=None)[0]
    assert placed.fits
    assert tiles.slots * 2 < PEAKS / 2
    first = built.columns.index("g0")
    np.testing.assert_allclose(point.local, coef[first : first + PEAKS], rtol=1e-10)
    np.testing.assert_allclose(
        point.common, np.delete(coef, slice(first, first + PEAKS)), rtol=1e-10
    )
    resid = np.ravel(point.resid)[:SAMPLES]
    np.testing.assert_allclose(resid, y - phi @ coef, atol=1e-10)


def test_bounds_hold_and_tiles_grow_where_peaks_do(solved):
    model, x, y = case()
    names = model.parameters
    upper = {name: np.inf for name in names}
    held = float(solved[0].value["g7.width"]) * 0.9
    upper["g7.width"] = held
    start = {name: param.init for name, param in names.items()} | {"g7.width": 0.8 * held}
    found = vp.solve(model, y, start, x, upper=upper)
    assert by_tiles(found)
    assert found.value["g7.width"] == held
    assert found.stats["at_upper"].sum() == 1
    # From half the widths supports double on the way, which no tile was made for.
    start = {
        name: np.asarray(param.init) * (0.6 if name.endswith("width") else 1.0)
        for name, param in names.items()
    }
    upper["g7.width"] = np.inf
    found = vp.solve(model, y, start, x, upper=upper)
    free = vp.solve(model, y, args=x, upper=upper)
    assert by_tiles(found)
    np.testing.assert_allclose(found.cost, free.cost, rtol=1e-10)


def test_what_has_no_support_or_is_differentiated_is_solved_densely():
    model, x, y = case()
    built = vp.basis.build_model(model)
    assert local_plan.local_group(built) == 1
    lorentz = sum(
        (vp.Lorentzian(f"l{i}", center=i, width=0.1) for i in range(1, 50)), vp.Constant("c")
    )
    assert local_plan.local_group(vp.basis.build_model(lorentz)) is None
    few = sum((vp.Gaussian(f"g{i}", center=i, width=0.1) for i in range(1, 9)), vp.Constant("c"))
    assert local_plan.local_group(vp.basis.build_model(few)) is None
    seen = []
    jax.make_jaxpr(lambda a: seen.append(local_plan.concrete(a)))(1.0)
    assert local_plan.concrete(x, {"a": 1.0}) and seen == [False]
    # Peaks as wide as the data see all of each other.
    wide = np.concatenate([np.arange(PEAKS) + 0.5, np.full(PEAKS, 20.0)])
    order = [built.names.index(f"g{i}.{key}") for key in ("center", "width") for i in range(PEAKS)]
    values = np.empty(len(wide))
    values[order] = wide
    assert local_plan.tiles_for(built, 1, x, values) is None


def test_a_bordered_block_tridiagonal_system_is_solved(rng):
    t, w, g = 5, 3, 2
    n = t * w
    full = np.zeros((n + g, n + g))
    rows = np.zeros((40, n + g))
    for i in range(t):
        rows[8 * i : 8 * i + 8, max(0, (i - 1) * w) : (i + 1) * w] = rng.normal(
            size=(8, (i + 1) * w - max(0, (i - 1) * w))
        )
    rows[:, n:] = rng.normal(size=(40, g))
    rows[:, 4] = 0.0  # a column of zeros is left out
    full = rows.T @ rows
    blocks = full[:n, :n].reshape(t, w, t, w)
    matrix = Bordered(
        jnp.asarray(np.stack([blocks[i, :, i] for i in range(t)])),
        jnp.asarray(np.stack([blocks[i, :, i - 1] if i else np.zeros((w, w)) for i in range(t)])),
        jnp.asarray(full[:n, n:].reshape(t, w, g)),
        jnp.asarray(full[n:, n:]),
    )
    right = rows.T @ rng.normal(size=40)
    solved = jax.jit(lambda matrix, *right: factored(matrix).solve(*right))
    u, v = solved(matrix, jnp.asarray(right[:n].reshape(t, w)), jnp.asarray(right[n:]))
    keep = np.delete(np.arange(n + g), 4)
    wanted = np.zeros(n + g)
    wanted[keep] = scipy.linalg.solve(full[np.ix_(keep, keep)], right[keep])
    np.testing.assert_allclose(np.concatenate([np.ravel(u), v]), wanted, rtol=1e-9, atol=1e-12)
