"""Super-resolution: shifts of frames of an image that is unknown.

    python scripts/bench/operators.py [SIDE ...] [--plain] [--scipy [zero] [last]]

For each side of the image: time and steps of `vp.solve`, compiled before, time of an outer step (with seconds of the
processor for each step and million pixels, which tell what others on the machine take), the errors of the
shifts in pixels of the frames at 1 % noise, and the peak of memory so far. `--plain`: also without the
preconditioner. `--scipy`: also variable projection written by hand with scipy: `least_squares` over alpha,
`lsmr` for the image and for each column of Kaufman's Jacobian, both to the tolerances of `vp.solve`; from
zero, as one would write it, and from the image of the last point.
"""

import argparse
import functools
import os
import resource
import time

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.fft
import scipy.optimize
import scipy.sparse.linalg as sla

import varpro as vp

jax.config.update("jax_enable_x64", True)
WORKERS = int(os.environ.get("NPROC", os.cpu_count() or 1))  # of scipy, as many as JAX has
FRAMES, FACTOR, WIDTH, STRENGTH = 4, 2, 1.2, 1e-3


def image(side, rng):
    """Blobs, bars and a grain of random pixels, of values of about one."""
    v, u = np.mgrid[:side, :side] / side
    out = np.zeros((side, side))
    for _ in range(30):
        cu, cv, size, height = (
            *rng.uniform(0.1, 0.9, 2),
            rng.uniform(0.005, 0.06),
            rng.uniform(0.3, 1),
        )
        out += height * np.exp(-0.5 * ((u - cu) ** 2 + (v - cv) ** 2) / size**2)
    out += 0.6 * ((np.sin(40 * u) > 0.6) & (v > 0.3) & (v < 0.5))
    return out


def frequencies(side):
    return np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]


def transfer(alpha, side, xp):
    """What the camera does to each frequency, for each frame (frames, side, side // 2 + 1)."""
    fy, fx = frequencies(side)
    blur = np.exp(-2 * np.pi**2 * WIDTH**2 * (fy**2 + fx**2))
    shifts = xp.concatenate([xp.zeros((1, 2)), alpha["shift"]]) * FACTOR
    return blur * xp.exp(-2j * np.pi * (shifts[:, :1, None] * fy + shifts[:, 1:, None] * fx))


def camera(alpha, side):
    """The frames (frames, side / 2, side / 2) of an image, as an operator."""
    otf, small = transfer(alpha, side, jnp), side // FACTOR

    def frames(c):
        seen = jnp.fft.irfft2(otf * jnp.fft.rfft2(c), s=(side, side))
        return seen.reshape(FRAMES, small, FACTOR, small, FACTOR).mean((2, 4))

    return lx.FunctionLinearOperator(frames, jax.ShapeDtypeStruct((side, side), jnp.float64))


def inverse(alpha, side, strength):
    """An inverse of the Gram matrix that neglects what sampling folds together: one number for each
    frequency."""
    fy, fx = frequencies(side)
    steps = 4 * np.sin(np.pi * fy) ** 2 + 4 * np.sin(np.pi * fx) ** 2
    gram = jnp.sum(jnp.abs(transfer(alpha, side, jnp)) ** 2, axis=0) / FACTOR**2 + strength * (
        steps + 1e-3
    )
    return lambda c: jnp.fft.irfft2(jnp.fft.rfft2(c) / gram, s=(side, side))


def problem(side, seed=0):
    rng = np.random.default_rng(seed)
    truth = {"shift": rng.uniform(-0.8, 0.8, (FRAMES - 1, 2))}
    scene = image(side, rng)
    clean = camera(jax.tree.map(jnp.asarray, truth), side).mv(jnp.asarray(scene))
    y = clean + 0.01 * jnp.std(clean) * rng.normal(size=clean.shape)
    start = {"shift": jnp.zeros((FRAMES - 1, 2))}
    return truth, scene, y, start


def by_varpro(side, y, start, **options):
    penalty = vp.Tikhonov(STRENGTH, "gradient")
    return vp.solve(camera, y, start, side, penalty=penalty, **options)


def by_scipy(side, y, start, warm, rtol=4e-10):
    """Variable projection by hand. Returns alpha, the cost, and numbers of inner and outer steps."""
    small, n, y = side // FACTOR, side**2, np.asarray(y).ravel()
    m, root = y.size, STRENGTH**0.5
    counts = {"inner": 0, "outer": 0}

    def tree(a):
        return {"shift": a.reshape(-1, 2)}

    def pooled(seen):
        return seen.reshape(-1, small, FACTOR, small, FACTOR).mean((2, 4)).ravel()

    def spread(u):
        u = u.reshape(FRAMES, small, small) / FACTOR**2
        return np.repeat(np.repeat(u, FACTOR, 1), FACTOR, 2)

    def operator(a):
        otf = transfer(tree(a), side, np)

        def ahead(c):
            c = c.reshape(side, side)
            seen = scipy.fft.irfft2(otf * scipy.fft.rfft2(c), s=(side, side), workers=WORKERS)
            smooth = root * np.diff(c, axis=0).ravel(), root * np.diff(c, axis=1).ravel()
            return np.concatenate([pooled(seen), *smooth])

        def back(u):
            f = np.asarray(scipy.fft.rfft2(spread(u[:m]), workers=WORKERS)) * otf.conj()
            c = np.asarray(scipy.fft.irfft2(f.sum(0), s=(side, side)))
            one, two = np.split(root * u[m:], 2)
            one, two = one.reshape(side - 1, side), two.reshape(side, side - 1)
            c[:-1] -= one
            c[1:] += one
            c[:, :-1] -= two
            c[:, 1:] += two
            return c.ravel()

        return sla.LinearOperator((m + 2 * side * (side - 1), n), ahead, back, dtype=float)

    def solved(b, right, tolerance, x0=None):
        found = sla.lsmr(b, right, atol=tolerance, btol=0, conlim=0, maxiter=1000, x0=x0)
        counts["inner"] += found[2]
        return found[0]

    last: dict[str, np.ndarray] = {}

    def residual(a):
        b = operator(a)
        right = np.concatenate([y, np.zeros(b.shape[0] - m)])
        c = solved(b, right, rtol, last.get("c") if warm else None)
        last["c"], last["a"] = c, a.copy()
        return right - b @ c

    def jacobian(a):
        counts["outer"] += 1
        if not np.array_equal(last["a"], a):
            residual(a)
        b, c, columns = operator(a), last["c"].reshape(side, side), []
        otf, f = transfer(tree(a), side, np), scipy.fft.rfft2(c)
        fy, fx = frequencies(side)
        moved = []
        for frame in range(1, FRAMES):
            for axis in (fy, fx):
                d = np.zeros_like(otf)
                d[frame] = -2j * np.pi * FACTOR * axis * otf[frame]
                moved.append(d)
        for d in moved:
            v = pooled(scipy.fft.irfft2(d * f, s=(side, side), workers=WORKERS))
            v = np.concatenate([-v, np.zeros(b.shape[0] - m)])
            columns.append(v - b @ solved(b, v, 1e-3))
        return np.stack(columns, axis=1)

    begin = np.ravel(start["shift"])
    options = {"ftol": 1e-10, "xtol": 1e-7, "gtol": 1e-8, "x_scale": "jac", "max_nfev": 60}
    found = scipy.optimize.least_squares(residual, begin, jac=jacobian, method="trf", **options)  # pyright: ignore
    return tree(found.x), found.cost, counts


def said(name, spent, steps, off, cost, pixels):
    took, processor = spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name}: {took:7.2f} s, {steps} outer steps of {1e3 * took / steps:.0f} ms "
        f"({1e6 * processor / steps / pixels:.1f} CPU s a million pixels), shifts within {off:.4f} pixels, "
        f"cost {cost:.8f}, peak {peak:.2f} GB",
        flush=True,
    )


def clocks():
    return np.array([time.perf_counter(), time.process_time()])


def main(sides, plain, twins):
    for side in sides:
        truth, _, y, start = problem(side)
        spent = np.zeros(2)
        for how in (None, inverse) if plain else (inverse,):
            inner = vp.linalg.ConjugateGradients(preconditioner=how)
            begin = clocks()
            solved = jax.jit(functools.partial(by_varpro, side, linear_solver=inner))
            solved = solved.lower(y, start).compile()
            compiled = clocks() - begin
            begin = clocks()
            found = jax.block_until_ready(solved(y, start))
            spent = clocks() - begin
            off = np.abs(np.asarray(found.value["shift"]) - truth["shift"]).max()
            name = f"n = {side**2}, {'with' if how else 'without'} preconditioner, compiled in {compiled[0]:.1f} s"
            name += f", {found.stats['inner_steps']} inner steps for the image"
            steps = int(found.stats["num_residuals"])
            said(name, spent, steps, off, float(found.cost), side**2)
            assert found.result == vp.RESULTS.successful
        for begun in twins:
            begin = clocks()
            value, cost, counts = by_scipy(side, y, start, begun == "last")
            other = clocks() - begin
            off = np.abs(value["shift"] - truth["shift"]).max()
            name = f"  scipy from {'the last point' if begun == 'last' else 'zero'}, {counts['inner']} inner steps"
            said(name, other, counts["outer"], off, cost, side**2)
            times, processor = other / spent
            print(
                f"  {times:.1f} times the last of ours, {processor:.1f} times in CPU time",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sides", nargs="*", type=int, default=[64, 128, 256])
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--scipy", nargs="*", choices=["zero", "last"])
    asked = parser.parse_args()
    twins = [] if asked.scipy is None else asked.scipy or ["zero", "last"]
    main(asked.sides, asked.plain, twins)
