"""Eigenvalues that PyDMD's BOPDMD finds in the data of tests/test_dmd.py; run where PyDMD is installed:

python tests/oracles/dmd/bopdmd.py > tests/oracles/dmd/bopdmd.json
"""

import json

import numpy as np


def data(k=30, m=80):
    """Complex rows of three decaying waves at uneven times, 2 % noise."""
    rng = np.random.default_rng(7)
    t = np.sort(rng.uniform(0.0, 8.0, m))
    lam = np.array([-0.1 + 2.0j, -0.25 - 3.5j, -0.05 + 6.0j])
    modes = rng.normal(size=(k, 3)) + 1j * rng.normal(size=(k, 3))
    clean = modes @ np.exp(np.outer(lam, t))
    noise = rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape)
    return clean + 0.02 * clean.std() * noise, t


def main():
    import importlib.metadata

    import pydmd

    X, t = data()
    out = {"pydmd": importlib.metadata.version("pydmd")}
    for name, projected in (("all rows", False), ("projected", True)):
        tight = {"tol": 1e-14, "eps_stall": 1e-15, "maxiter": 100}
        dmd = pydmd.BOPDMD(
            svd_rank=3, num_trials=0, use_proj=projected, varpro_opts_dict=tight, eig_sort="imag"
        )
        dmd.fit(X, t)
        order = np.argsort(dmd.eigs.imag)
        out[name] = {
            "real": dmd.eigs.real[order].tolist(),
            "imag": dmd.eigs.imag[order].tolist(),
            "amplitudes": np.abs(dmd.amplitudes)[order].tolist(),
        }
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
