"""
A spectrum in the time domain
=============================

Magnetic resonance of phosphorus in muscle: the signal is a sum of damped complex waves, one for each
of twelve lines. Chemistry knows how lines of one molecule belong together, and with that the weak ones
are measured better.
"""

import matplotlib.pyplot as plt
import numpy as np

import varpro as vp

# Simulated, at 3 tesla: frequency (Hz) and decay rate (1/s) of each line, and its amplitude. ATP has two
# doublets and a triplet, split by J = 16 Hz. 0.4 ms pass between the pulse and the first sample.
J, DELAY = 16.0, 4e-4
truth = {
    "PCr": (0.0, 25.0, 10.0),
    "PE": (351.0, 45.0, 0.6),
    "Pi": (251.0, 45.0, 1.6),
    "GPE": (181.0, 45.0, 0.4),
    "GPC": (152.0, 45.0, 0.5),
    **{f"gamma{i}": (-129.0 + J * (i - 1.5), 70.0, 2.0) for i in (1, 2)},
    **{f"alpha{i}": (-388.0 + J * (i - 1.5), 70.0, 2.0) for i in (1, 2)},
    **{f"beta{i}": (-838.0 + J * (i - 2), 70.0, w) for i, w in ((1, 1.0), (2, 2.0), (3, 1.0))},
}
t = np.arange(1024) / 2500.0
signal = sum(a * np.exp((2j * np.pi * f - rate) * (t + DELAY)) for f, rate, a in truth.values())
rng = np.random.default_rng(4)
fid = np.exp(0.6j) * signal + 0.35 * (rng.normal(size=t.size) + 1j * rng.normal(size=t.size))

# %%
# All lines have the phase of the receiver, and amplitudes are real. Frequencies start some hertz away.

receiver = vp.Receiver("receiver", phase=0.3, delay=DELAY)
near = {name: f + rng.uniform(-4.0, 4.0) for name, (f, _, _) in truth.items()}
model = sum(vp.ComplexExp(n, freq=f, rate=50.0, receiver=receiver) for n, f in near.items())
plain = vp.fit(model, t, fid, real_coefficients=True)

# %%
# Prior knowledge: splittings, shared widths, amplitudes within ATP as 1:1 and 1:2:1, none below zero.

lines = ("gamma1", "gamma2", "alpha1", "alpha2", "beta1", "beta2", "beta3")
tie = {f"{name}.rate": "gamma1.rate" for name in lines[1:]}
tie |= {f"{name}.rate": "Pi.rate" for name in ("PE", "GPE", "GPC")}
tie |= {f"{m}2.freq": f"{m}1.freq + {J}" for m in ("gamma", "alpha")}
tie |= {f"beta{i}.freq": f"beta1.freq + {J * (i - 1)}" for i in (2, 3)}
relations = {name: {"gamma1": truth[name][2] / truth["gamma1"][2]} for name in lines[1:]}
fit = vp.fit(model, t, fid, real_coefficients=True, nonnegative=True, tie=tie, relations=relations)
print(f"\n{'line':8}{'truth':>7}{'plain':>18}{'with prior knowledge':>24}")
for name, (_, _, a) in truth.items():
    one, both = (f"{f[name].value:.2f} +- {f[name].stderr:.2f}" for f in (plain, fit))
    print(f"{name:8}{a:7.2f}{one:>18}{both:>24}")

# %%
fig, (top, low) = plt.subplots(2, 1, figsize=(9, 7), layout="constrained")
hertz = np.fft.fftshift(np.fft.fftfreq(4 * t.size, t[1]))


def spectrum(y):
    """The real part, its phase taken out."""
    back = np.exp(-1j * (fit["receiver.phase"].value + 2 * np.pi * hertz * DELAY))
    seen = np.fft.fft(np.r_[0.5 * y[0], y[1:]], 4 * t.size)
    return np.real(back * np.fft.fftshift(seen)) * t[1]


top.plot(hertz, spectrum(fid), lw=0.7, color="#8a8a8a", label="data")
top.plot(hertz, spectrum(fit.fitted), lw=1.2, color="#1f5fa8", label="fit")
top.plot(hertz, spectrum(fit.resid) - 0.09, lw=0.6, color="#c8641b", label="residual")
for name, curve in fit.components().items():
    top.plot(hertz, spectrum(curve) - 0.04, lw=0.6, color="#5b8c5a", alpha=0.8)
    f = fit[f"{name}.freq"].value
    if not name.endswith(("2", "3")):
        high = 0.05 if name != "PCr" else 0.17
        top.annotate(name.rstrip("1"), (f, high), ha="center", fontsize=8, rotation=60)
top.set(xlim=(450, -950), ylim=(-0.13, 0.22), xlabel="frequency (Hz)", title="31P spectrum")
top.legend(frameon=False, loc="upper right", ncols=3)
x = np.arange(len(truth))
low.plot(x, [a for _, _, a in truth.values()], "_", ms=22, color="k", label="truth")
for shift, one, label in ((-0.12, plain, "every line for itself"), (0.12, fit, "prior knowledge")):
    values = np.array([(one[n].value, one[n].stderr) for n in truth])
    low.errorbar(x + shift, values[:, 0], values[:, 1], fmt="o", ms=4, label=label)
low.set(yscale="log", ylim=(0.1, 20), title="amplitudes", xticks=x, xticklabels=list(truth))
low.legend(frameon=False)

# %%
# Every voxel of an image has such a signal. Along this row phosphocreatine is used up, and the line of
# phosphate moves as muscle turns acid. Each is fitted for itself, with a phase of its own.

place = np.linspace(0.0, 1.0, 12)[:, None]
used, moved, turn = 6.0 * place, -15.0 * place, rng.uniform(-0.5, 0.5, place.shape)
pcr, pi = (np.exp((2j * np.pi * f - r) * (t + DELAY)) for f, r in ((0.0, 25.0), (251.0, 45.0)))
more = (1.6 + used) * np.exp(2j * np.pi * moved * (t + DELAY)) - 1.6
voxels = np.exp(1j * turn) * (signal - used * pcr + more * pi)
voxels += 0.35 * (rng.normal(size=voxels.shape) + 1j * rng.normal(size=voxels.shape))
row = vp.fit_many(model, t, voxels, real_coefficients=True, tie=tie, init={"receiver.phase": 0.0})
row.plot_maps(["PCr", "Pi", "Pi.freq", "receiver.phase"], labels=vp.Labels(rhs="voxel"))
plt.show()
