"""Functions of the error function's family, each accurate over its whole range.

All are plain polynomials in a bounded variable: no branch can overflow, and their derivatives of any
order come by differentiating the polynomial. The identities that express those derivatives by the
functions themselves, such as w' = -2 z w + 2i/sqrt(pi), lose |z|^2 of their digits to cancellation.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Inexact

# (1 + 2 z) erfcx(z) as a polynomial in t = (z - K) / (z + K), highest power first. The variable is
# from Shepherd and Laframboise, Math. Comp. 36 (1981) 249; the coefficients are those of Chebyshev
# interpolation to degree 24 in 50 digits.
_K = 3.75
_ERFCX = (
    *(
        4.2514714447963895e-10,
        3.1114333809799254e-10,
        -5.1739902140113095e-09,
        -3.744210080962018e-09,
    ),
    *(
        3.8675334242222354e-08,
        2.3263508708859124e-08,
        -2.5866850716155884e-07,
        -5.7218230603224086e-08,
    ),
    *(1.751637648849062e-06, -9.73559896736775e-07, -1.1444146237700524e-05, 2.238423915508223e-05),
    *(5.164909889268241e-05, -0.0002901540805408417, 0.0002937136655913448, 0.0017556258528952954),
    *(-0.009746579558029276, 0.028362277418956406, -0.05869339858963677, 0.09230432116037748),
    *(-0.10880393014174886, 0.0822767384901452, 0.0035854154854644293, -0.14024059858554697),
    1.2375126308378275,
)


def _with_slope(function):
    """Give an elementwise function of one number a derivative that all tangents share as one array:
    the derivatives by several parameters then cost one evaluation more and not one each.

    Its many terms are traced once for each shape, for all programs that it stands in."""
    function = jax.jit(function)
    with_slope = jax.custom_jvp(function)

    @with_slope.defjvp
    def rule(primals, tangents):
        (z,), (t_z,) = primals, tangents
        _, slope = jax.jvp(function, (z,), (jnp.ones_like(z),))
        return with_slope(z), slope * t_z

    return with_slope


@_with_slope
def erfcx(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """`exp(z^2) erfc(z)` for z >= 0, to 1e-15 of its value."""
    z = jnp.minimum(z, _largest(z))
    t = (z - _K) / (z + _K)
    return _horner(_ERFCX, t) / (1.0 + 2.0 * z)


def _weideman(n: int) -> tuple[float, tuple[float, ...]]:
    """L and the n coefficients of Weideman's expansion of w (1994), highest power first."""
    half = 2 * n
    size = math.sqrt(n / math.sqrt(2.0))
    t = size * np.tan(np.pi * np.arange(1 - half, half) / (2 * half))
    f = np.r_[0.0, np.exp(-(t**2)) * (size**2 + t**2)]
    coefficients = np.fft.fft(np.fft.fftshift(f)).real / (2 * half)
    return size, tuple(coefficients[n:0:-1].tolist())


_L, _W = _weideman(40)


@_with_slope
def faddeeva(z: Complex[Array, "..."]) -> Complex[Array, "..."]:
    """`w(z) = exp(-z^2) erfc(-i z)` for Im z >= 0, to 5e-14 of its modulus.

    Weideman, SIAM J. Numer. Anal. 31 (1994) 1497, with 40 terms.
    """
    largest = _largest(z)
    z = jnp.clip(z.real, -largest, largest) + 1j * jnp.minimum(z.imag, largest)
    q = 1.0 / (_L - 1j * z)
    return q * (2.0 * q * _horner(_W, 2.0 * _L * q - 1.0) + 1.0 / math.sqrt(math.pi))


def filtered_decay(
    t: Inexact[Array, "..."], rate: Inexact[Array, "..."], width: Float[Array, "..."]
) -> Inexact[Array, "..."]:
    """`exp(-rate t)` for t > 0, else 0, convolved with a Gaussian of unit area.

    With s = width, u = t / s and z = (rate s - u) / sqrt(2) it is

        exp(-u^2 / 2) erfcx(z) / 2                               for Re z >= 0,
        exp((rate s)^2 / 2 - rate t) - exp(-u^2 / 2) erfcx(-z) / 2     elsewhere,

    where no exponent is large and positive. The rate may be complex. A width of zero is a step at
    t = 0, with its middle there.
    """
    # Below the rounding of t a width is as good as none, and u^2 and its derivative stay finite.
    eps = jnp.finfo(t.dtype).eps
    s = jnp.maximum(jnp.abs(width), jnp.maximum(eps * jnp.max(jnp.abs(t)), _smallest(t)))
    u, a = t / s, rate * s
    z = (a - u) / math.sqrt(2.0)
    late = z.real < 0
    z = jnp.where(late, -z, z)
    scaled = faddeeva(1j * z) if jnp.iscomplexobj(z) else erfcx(z)
    # Clipped where it is zero in any case.
    early = 0.5 * jnp.exp(-0.5 * jnp.clip(u, -60.0, 60.0) ** 2) * scaled
    exponent = jnp.where(late, 0.5 * a**2 - rate * t, 0.0)
    return jnp.where(late, jnp.exp(exponent) - early, early)


def _horner(coefficients: tuple[float, ...], t: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    """Polynomial at t by Horner's rule, coefficients with the highest power first."""
    total = jnp.full_like(t, coefficients[0])
    for c in coefficients[1:]:
        total = total * t + c
    return total


def _largest(z: Inexact[Array, "..."]) -> float:
    """Bound of arguments: the functions are as good as zero beyond it, and its square is finite."""
    return float(jnp.finfo(z.dtype).max) ** 0.4


def _smallest(z: Inexact[Array, "..."]) -> float:
    """Width by which numbers of this precision may be divided without overflow."""
    return float(jnp.finfo(z.dtype).tiny) ** 0.4
