"""
One decay
=========

Fluorescence of photosystem I at one wavelength, as a streak camera saw it: two lifetimes and what
stays. No starts are given; they are found in the data.
"""

# Data: pyglotaran-examples, study_fluorescence (MIT licence); see the head of the file.
import pathlib

import matplotlib.pyplot as plt
import pandas as pd

import varpro as vp

folder = pathlib.Path(__file__).parent
table = pd.read_csv(folder / "data/fluorescence.csv", comment="#", index_col=0)
late = table.index > -78.0  # the exciting pulse came at -84.3 ps and is over
t = table.index.to_numpy()[late] + 84.3
y = table["690.45"].to_numpy()[late]

# %%
# The model is a sum of components. Each has a coefficient, its amplitude, which needs no start.

model = vp.Exp("fast") + vp.Exp("slow") + vp.Constant("rest")
fit = vp.fit(model, t, y)
print(fit)

# %%
# The findings are right: a pixel of this camera sees what its neighbours see, so neighbouring
# residuals are alike, and standard errors that take them for independent are too small. One way out
# is to bring as many samples together as are alike.

group = 12
fewer = t.size // group * group
coarse = vp.fit(model, *(a[:fewer].reshape(-1, group).mean(axis=1) for a in (t, y)))
for name in ("fast.tau", "slow.tau"):
    print(
        f"{name}: {' +/- '.join(fit[name].rounded)} ps, of means {coarse[name].value:.2f} +/- ",
        end="",
    )
    print(f"{coarse[name].stderr:.2f} ps")

# %%
# Data, fit, components and residuals:

labels = vp.Labels(x="time after the pulse (ps)", y="counts at 690 nm")
fit.plot(labels=labels, fig=plt.figure(figsize=(7, 5)))
plt.show()
