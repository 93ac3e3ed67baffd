"""What the posterior of a fit gives and costs.

    python scripts/bench/posterior.py [--sets 200] [--case 'strongly curved' ...] [--flat] [--seconds S --file F] [--cost]

For simulated data sets of `tests/coverage_cases.py`: how often 95 % intervals by covariance and by posterior hold the truth; an
interval by covariance that is withheld, for a parameter on its bound, is counted apart, in brackets. With `--flat`:
coefficients have flat priors in all cases. With `--cost`:
effective draws per second of the posterior without coefficients, against the same sampler on all parameters. With `--seconds` and `--file` it ends after some time and
goes on from that file when it is called again.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
from coverage_cases import CASES, band  # noqa: E402

import varpro as vp  # noqa: E402

# A posterior needs an end where the data set none: bounds of every lifetime, and of what is strongly curved the size
# that coefficients have.
BOUNDS = {
    "strongly curved": {"decay.tau": (0.2, 3.0)},
    "bounded, one error from the bound": {"fast.tau": (0.1, 3.0), "slow.tau": (1.0, 6.15)},
}
COEF_SD = {"strongly curved": 1.0}
DRAWS = 1000


def coverage(
    case, sets: int, flat: bool, until: float, kept: dict, save: Callable[[], None]
) -> None:
    """Counts of one case, on top of those in `kept`."""
    if case.name in BOUNDS:
        told = case.told | {"bounds": BOUNDS[case.name]}
        case = dataclasses.replace(case, told=told)
    sd = None if flat else COEF_SD.get(case.name)
    data = case.noisy(np.random.default_rng(0), sets)
    done = kept.setdefault(case.name, {"sets": 0, "fits": 0, "warned": 0, "given": None})
    for i in range(done["sets"], sets):
        if time.perf_counter() > until:
            break
        done["sets"] = i + 1
        fit = case.fit(data[i])
        if not fit.success:
            continue
        theta = [fit.params[fit.names[j]].init for j in fit.layout.free]
        true = np.concatenate([theta, case.coef])
        drawn = fit.posterior(DRAWS, coef_sd=sd, key=i)
        found = {"covariance": fit.ci(0.95), "posterior": drawn.ci(0.95)}
        if done["given"] is None:
            none = [0] * true.size
            done |= {"names": found["posterior"].names, "given": none} | dict.fromkeys(found, none)
        done["fits"] += 1
        done["warned"] += bool(drawn.findings)
        for method, ends in found.items():
            with np.errstate(invalid="ignore"):
                holds = (ends.lower <= true) & (true <= ends.upper)
            done[method] = (np.array(done[method]) + holds).tolist()
        withheld = np.isnan(found["covariance"].lower)
        done["given"] = (np.array(done["given"]) + ~withheld).tolist()
        save()
    low, high = (100 * end for end in band(max(done["fits"], 1)))
    print(
        f"{case.name}: {done['sets']} sets, {done['fits']} fits; exact intervals: {low:.1f} to {high:.1f} % in 99 of "
        f"100; {done['warned']} with findings"
    )
    for j, name in enumerate(done.get("names", ())):
        given, fits = done["given"][j], done["fits"]
        by = 100 * done["covariance"][j] / max(given, 1)
        note = "" if given == fits else f" ({given})"
        print(
            f"  {name}: covariance {by:.1f}{note}, posterior {100 * done['posterior'][j] / fits:.1f}"
        )


def cost() -> None:
    """Effective draws per second of two lifetimes, with and without coefficients among the coordinates."""
    import blackjax

    t = np.linspace(0.0, 20.0, 80)
    phi = lambda tau: jnp.concatenate([jnp.exp(-t[:, None] / tau), jnp.ones((80, 1))], axis=1)  # noqa: E731
    y = np.asarray(phi(jnp.array([1.0, 6.0])) @ jnp.array([3.0, 2.0, 0.5]))
    y = y + 0.02 * np.random.default_rng(0).normal(size=80)
    model = vp.Exp("fast", tau=1.0) + vp.Exp("slow", tau=6.0) + vp.Constant("bg")
    fit = vp.fit(model, t, y, bounds={"fast.tau": (0.1, 3.0), "slow.tau": (3.0, 30.0)})
    fit.posterior(1000)
    begin = time.perf_counter()
    drawn = fit.posterior(1000, key=1)
    took = time.perf_counter() - begin
    ours = min(drawn.ess.values()) / took

    low, high = jnp.array([0.1, 3.0]), jnp.array([3.0, 30.0])

    def whole(z):
        tau = low + (high - low) * jax.nn.sigmoid(z[:2])
        jac = jnp.sum(jax.nn.log_sigmoid(z[:2]) + jax.nn.log_sigmoid(-z[:2]))
        resid = y - phi(tau) @ z[2:5]
        return jac - 80 * z[5] - 0.5 * jnp.sum(resid**2) * jnp.exp(-2 * z[5])

    tau = fit.alpha
    z0 = np.r_[np.log((tau - low) / (high - tau)), fit.coef, np.log(fit.sigma_resid)]

    @jax.jit
    def chains(key):
        def one(key):
            adapted = blackjax.window_adaptation(
                blackjax.nuts, whole, is_mass_matrix_diagonal=False, target_acceptance_rate=0.9
            )
            (state, settings), _ = adapted.run(key, jnp.asarray(z0), num_steps=500)
            step = blackjax.nuts(whole, **settings).step

            def body(state, key):
                state, _ = step(key, state)
                return state, state.position

            return jax.lax.scan(body, state, jax.random.split(jax.random.fold_in(key, 1), 1000))[1]

        return jax.vmap(one)(jax.random.split(key, 4))

    chains(jax.random.key(0))
    begin = time.perf_counter()
    z = jax.block_until_ready(chains(jax.random.key(1)))
    spent = time.perf_counter() - begin
    theirs = min(float(blackjax.diagnostics.ess_bulk(z[..., i])) for i in range(5)) / spent
    taus = low + (high - low) * jax.nn.sigmoid(z[..., :2])
    print(
        f"effective draws per second: {ours:.0f} without coefficients ({took:.2f} s), {theirs:.0f} of all parameters "
        f"({spent:.2f} s)"
    )
    print("medians", np.median(drawn.samples(["*.tau"]), (0, 1)), np.median(taus, (0, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", type=int, default=200)
    known = ["strongly curved", "bounded, one error from the bound"]
    parser.add_argument("--case", nargs="*", default=known, choices=list(CASES))
    parser.add_argument("--seconds", type=float, default=np.inf)
    parser.add_argument("--file", type=pathlib.Path)
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--cost", action="store_true")
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    until = time.perf_counter() + asked.seconds
    kept = json.loads(asked.file.read_text()) if asked.file and asked.file.exists() else {}

    def save():
        if asked.file:
            asked.file.write_text(json.dumps(kept))

    for name in asked.case:
        coverage(CASES[name], asked.sets, asked.flat, until, kept, save)
    if asked.cost:
        cost()


if __name__ == "__main__":
    main()
