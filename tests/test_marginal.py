"""The likelihood without coefficients against the dense normal distribution, and the loss without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import varpro as vp

M, N = 30, 3
T = np.linspace(0.0, 6.0, M)
ALPHA = {"tau": jnp.array([0.7, 2.5])}


def basis(alpha, t):
    return jnp.concatenate([jnp.exp(-t[:, None] / alpha["tau"]), jnp.ones((t.size, 1))], axis=1)


PHI = np.asarray(basis(ALPHA, T))


@pytest.fixture
def y(rng):
    return PHI @ [2.0, 1.0, 0.3] + 0.1 * rng.normal(size=M)


def dense(y, phi, sigma, covariance, mean):
    """The density by its definition: scipy's, of a matrix of m x m."""
    noise = np.diag(np.broadcast_to(sigma, len(y)) ** 2)
    normal = scipy.stats.multivariate_normal(phi @ mean, noise + phi @ covariance @ phi.T)
    return normal.logpdf(y)


# Both sides round sums of squares of some 100, and the logarithm of the determinant, to 1e-16 of them.
EXACT = 1e-9


@pytest.mark.parametrize("form", ["sd", "sds", "covariance", "sigmas", "small prior"])
def test_the_density_is_that_of_the_dense_normal_distribution(form, y, rng):
    sigma, sd, mean = 0.13, 1.7, np.zeros(N)
    if form == "sd":
        value = vp.log_marginal(basis, y, ALPHA, T, sigma=sigma, coef_sd=sd)
        covariance = sd**2 * np.eye(N)
    elif form == "sds":
        sds, mean = np.array([1.0, 0.0, 30.0]), np.array([1.0, 0.5, -2.0])
        value = vp.log_marginal(basis, y, ALPHA, T, sigma=sigma, coef_sd=sds, coef_mean=mean)
        covariance = np.diag(sds**2)
    elif form == "covariance":
        root = rng.normal(size=(N, N))
        covariance, mean = root @ root.T + np.eye(N), np.array([1.0, 2.0, 3.0])
        value = vp.log_marginal(
            basis, y, ALPHA, T, sigma=sigma, coef_cov=covariance, coef_mean=mean
        )
    elif form == "sigmas":
        sigma, covariance = 0.1 + 0.02 * T, sd**2 * np.eye(N)
        value = vp.log_marginal(basis, y, ALPHA, T, sigma=sigma, coef_sd=sd)
    else:
        covariance = 1e-4**2 * np.eye(N)
        value = vp.log_marginal(basis, y, ALPHA, T, sigma=sigma, coef_sd=1e-4)
    expected = dense(y, PHI, sigma, covariance, mean)
    assert float(value) == pytest.approx(expected, rel=EXACT)


def test_columns_dependent_or_more_than_samples_are_no_matter_under_a_prior(y):
    twice = np.concatenate([PHI, PHI], axis=1)
    found = vp.log_marginal(lambda _, phi: phi, y, None, twice, sigma=0.2, coef_sd=0.8)
    assert float(found) == pytest.approx(
        dense(y, twice, 0.2, 0.64 * np.eye(6), np.zeros(6)), rel=EXACT
    )
    few = vp.log_marginal(lambda _, phi: phi, y[:4], None, twice[:4], sigma=0.2, coef_sd=0.8)
    expected = dense(y[:4], twice[:4], 0.2, 0.64 * np.eye(6), np.zeros(6))
    assert float(few) == pytest.approx(expected, rel=EXACT)
    # Under a flat one there is no density.
    assert np.isnan(vp.log_marginal(lambda _, phi: phi, y, None, twice, sigma=0.2))


def test_a_flat_prior_is_the_limit_of_a_wide_one_and_may_be_that_of_some(y):
    wide = 1e3
    flat = vp.log_marginal(basis, y, ALPHA, T, sigma=0.13)
    limit = dense(y, PHI, 0.13, wide**2 * np.eye(N), np.zeros(N))
    # What differs is c^2 / wide^2; the dense matrix has a condition of 1e9.
    assert float(flat) == pytest.approx(limit + N * np.log(wide * np.sqrt(2 * np.pi)), abs=1e-3)
    some = vp.log_marginal(basis, y, ALPHA, T, sigma=0.13, coef_sd=np.array([1.0, np.inf, 2.0]))
    limit = dense(y, PHI, 0.13, np.diag([1.0, wide**2, 4.0]), np.zeros(N))
    assert float(some) == pytest.approx(limit + np.log(wide * np.sqrt(2 * np.pi)), abs=1e-3)


@pytest.mark.parametrize("sd", [None, 0.5, "some"])
def test_sigma_is_integrated_out_under_jeffreys_prior(sd, y):
    sd = np.array([0.5, np.inf, 3.0]) if sd == "some" else sd
    given = jax.jit(lambda s: vp.log_marginal(basis, y, ALPHA, T, sigma=s, coef_sd=sd))
    found = float(vp.log_marginal(basis, y, ALPHA, T, coef_sd=sd))
    top = max(float(given(s)) for s in np.geomspace(0.01, 10, 60))
    # Adaptive quadrature, far from the nodes that the code has.
    area = scipy.integrate.quad(
        lambda t: np.exp(float(given(np.exp(t))) - top), -5.0, 5.0, points=[-2.3], epsabs=1e-13
    )[0]
    assert found == pytest.approx(np.log(area) + top, abs=1e-8)


def test_few_data_leave_sigma_a_long_tail_and_it_is_counted(y):
    # One degree of freedom: the density falls like 1 / sigma.
    few, sd = 3, np.array([np.inf, np.inf])
    given = jax.jit(
        lambda s: vp.log_marginal(lambda _, p: p, y[:few], None, PHI[:few, :2], sigma=s, coef_sd=sd)
    )
    flat = float(vp.log_marginal(lambda _, p: p, y[:few], None, PHI[:few, :2]))
    summed = float(vp.log_marginal(lambda _, p: p, y[:few], None, PHI[:few, :2], coef_sd=sd))
    assert summed == pytest.approx(flat, abs=1e-8)
    assert np.isfinite(float(given(1.0)))
    assert np.isnan(vp.log_marginal(lambda _, p: p, y[:2], None, PHI[:2, :2]))


def test_weights_of_zero_leave_samples_out_and_scales_carry_through(y):
    weights = np.where(np.arange(M) % 5 == 0, 0.0, 1.0 + 0.1 * np.arange(M))
    spoilt = np.where(weights > 0, y, np.nan)
    used = weights > 0
    found = vp.log_marginal(basis, spoilt, ALPHA, T, sigma=0.2, coef_sd=2.0, weights=weights)
    expected = dense(y[used], PHI[used], 0.2 / weights[used], 4 * np.eye(N), np.zeros(N))
    assert float(found) == pytest.approx(expected, rel=EXACT)
    # y and its scales times 1e6 is a density of other units.
    for sd, sigma in ((2.0, 0.2), (2.0, None), (None, None)):
        one = vp.log_marginal(basis, y, ALPHA, T, sigma=sigma, coef_sd=sd)
        big = vp.log_marginal(
            *(basis, 1e6 * y, ALPHA, T),
            sigma=None if sigma is None else 1e6 * sigma,
            coef_sd=None if sd is None else 1e6 * sd,
        )
        lost = M if sd is not None else M - N
        assert float(one - big) == pytest.approx(lost * np.log(1e6), rel=1e-10)


def test_complex_data_are_twice_as_many_real_ones(y, rng):
    z = y + 1j * rng.normal(size=M)
    phi = PHI * np.exp(1j * T)[:, None]
    found = vp.log_marginal(lambda _, p: p, z, None, phi, sigma=0.3, coef_sd=1.5)
    real = np.block([[phi.real, -phi.imag], [phi.imag, phi.real]])
    expected = dense(np.r_[z.real, z.imag], real, 0.3, 1.5**2 * np.eye(2 * N), np.zeros(2 * N))
    assert float(found) == pytest.approx(expected, rel=EXACT)


def test_right_hand_sides_are_independent_but_for_what_they_share(y, rng):
    both = np.stack([y, y + rng.normal(size=M)], axis=1)
    found = vp.log_marginal(basis, both, ALPHA, T, sigma=0.2, coef_sd=1.0)
    alone = [float(vp.log_marginal(basis, b, ALPHA, T, sigma=0.2, coef_sd=1.0)) for b in both.T]
    assert float(found) == pytest.approx(sum(alone), rel=EXACT)


def test_it_is_differentiable_and_takes_transformations(y):
    def value(tau, sigma, sd):
        return vp.log_marginal(basis, y, {"tau": tau}, T, sigma=sigma, coef_sd=sd)

    point = (ALPHA["tau"], jnp.array(0.2), jnp.array(1.5))
    grads = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(*point)
    h = 1e-5
    for i, grad in enumerate(grads):
        for j in range(grad.size):
            step = h * jnp.zeros(grad.size).at[j].set(1.0).reshape(grad.shape)
            ahead, behind = ([*point[:i], point[i] + s, *point[i + 1 :]] for s in (step, -step))
            central = (
                dense(
                    y,
                    np.asarray(basis({"tau": ahead[0]}, T)),
                    ahead[1],
                    ahead[2] ** 2 * np.eye(N),
                    np.zeros(N),
                )
                - dense(
                    y,
                    np.asarray(basis({"tau": behind[0]}, T)),
                    behind[1],
                    behind[2] ** 2 * np.eye(N),
                    np.zeros(N),
                )
            ) / (2 * h)
            # Central differences of numbers of 100: 1e-14 / 1e-5, and h^2.
            assert float(jnp.ravel(grad)[j]) == pytest.approx(central, rel=1e-6, abs=1e-6)
    many = jax.jit(jax.vmap(lambda tau: vp.log_marginal(basis, y, {"tau": tau}, T, coef_sd=1.0)))
    taus = jnp.array([[0.7, 2.5], [0.4, 3.0]])
    one = [float(vp.log_marginal(basis, y, {"tau": tau}, T, coef_sd=1.0)) for tau in taus]
    assert np.allclose(many(taus), one, rtol=1e-10)


def test_a_model_of_bases_is_taken_with_its_starts(y):
    model = vp.Exp("a", tau=0.7) + vp.Exp("b", tau=2.5) + vp.Constant("c")
    found = vp.log_marginal(model, y, args=T, sigma=0.2, coef_sd=1.0)
    expected = dense(y, PHI, 0.2, np.eye(N), np.zeros(N))
    assert float(found) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sigma": -1.0}, "sigma must be positive, not -1.0"),
        ({"sigma": np.ones(3)}, "one for each of the 30 samples"),
        ({"coef_sd": [1.0, 2.0]}, "expected a number or (3,) for 3 columns"),
        ({"coef_sd": 1.0, "coef_cov": np.eye(3)}, "not both"),
        ({"coef_mean": 1.0}, "coef_mean is for a prior"),
        ({"coef_cov": np.eye(2)}, "coef_cov has shape (2, 2); expected (3, 3)"),
        ({"sigma": np.ones(M), "weights": np.ones(M)}, "not both"),
        ({"weights": np.ones(4)}, "weights has shape (4,)"),
    ],
)
def test_wrong_priors_and_shapes_are_refused_by_name(given, said):
    with pytest.raises(vp.InputError) as error:
        vp.log_marginal(basis, np.zeros(M), ALPHA, T, **given)
    assert said in str(error.value)


# ---------------------------------------------------------------- reduced_loss


def test_the_reduced_loss_is_the_cost_of_solve_and_of_project_out(y):
    weights = 1.0 + 0.05 * np.arange(M)
    solved = vp.solve(basis, y, ALPHA, T, weights=weights)
    loss, coef = vp.reduced_loss(basis, y, solved.value, T, weights=weights, has_aux=True)
    assert float(loss) == pytest.approx(float(solved.cost), rel=1e-12)
    assert np.allclose(coef, solved.coef, rtol=1e-9)
    resid, _ = vp.linalg.project_out(weights[:, None] * PHI, weights * y)
    assert float(vp.reduced_loss(basis, y, ALPHA, T, weights=weights)) == pytest.approx(
        0.5 * float(resid @ resid), rel=1e-12
    )
    # At the optimum the gradient vanishes, as far as steps of the search do.
    slope = jax.jit(jax.grad(lambda a: vp.reduced_loss(basis, y, a, T, weights=weights)))
    assert np.abs(slope(solved.value)["tau"]).max() < 1e-6 * np.abs(slope(ALPHA)["tau"]).max()


def test_gradient_and_hessian_are_those_of_the_augmented_projection(y):
    ridge = 0.3

    def augmented(tau, ridge, y):
        rows = jnp.sqrt(ridge) * jnp.eye(N)
        phi = jnp.concatenate([basis({"tau": tau}, T), rows])
        resid, _ = vp.linalg.project_out(phi, jnp.concatenate([y, jnp.zeros(N)]))
        return 0.5 * resid @ resid

    def loss(tau, ridge, y):
        return vp.reduced_loss(basis, y, {"tau": tau}, T, ridge)

    point = (ALPHA["tau"], jnp.array(ridge), jnp.asarray(y))
    every = (0, 1, 2)
    found, expected = (jax.jit(jax.value_and_grad(f, every))(*point) for f in (loss, augmented))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.allclose(a, b, rtol=1e-10, atol=1e-12)
    for a, b in zip(
        *(jax.jit(jax.hessian(f, (0, 1)))(*point) for f in (loss, augmented)), strict=True
    ):
        assert np.allclose(a[0], b[0], rtol=1e-8) and np.allclose(a[1], b[1], rtol=1e-8)


def test_in_single_precision_dependent_columns_do_not_spoil_the_gradient():
    t = np.linspace(0.0, 1.0, 200, dtype=np.float32)
    rough = np.float32(1.0) + np.sin(9 * t)

    def nearly(scale, t):
        return jnp.stack([jnp.exp(-scale * (1 + 1e-3 * j) * t) for j in range(6)], axis=1)

    slope = jax.jit(jax.grad(lambda s: vp.reduced_loss(nearly, rough, s, t, np.float32(1e-4))))
    double = rough.astype(float), t.astype(float)
    exact = jax.jit(jax.grad(lambda s: vp.reduced_loss(nearly, double[0], s, double[1], 1e-4)))
    assert float(slope(np.float32(1.3))) == pytest.approx(float(exact(1.3)), rel=1e-3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ridge": -1.0}, "ridge must be zero or more, not -1.0"),
        ({"ridge": np.ones(2)}, "ridge has shape (2,); expected a number or (3,)"),
        ({"linear_solver": "qr"}, "linear_solver='qr' is none"),
        ({"has_aux": "yes"}, "has_aux must be True or False"),
        ({"y": np.zeros(4)}, "basis(alpha, args) has shape (30, 3) but y has shape (4,)"),
        ({"basis": 3}, "basis must be a function of (alpha, args), not 3"),
    ],
)
def test_wrong_arguments_of_the_loss_are_refused_by_name(given, said):
    given = {"basis": basis, "y": np.zeros(M), "alpha": ALPHA, "args": T} | given
    with pytest.raises(vp.InputError) as error:
        vp.reduced_loss(given.pop("basis"), given.pop("y"), **given)
    assert said in str(error.value)
