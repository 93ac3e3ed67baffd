"""Michaelis-Menten kinetics as a basis with one column."""


def saturation(theta, conc):
    """`conc / (K + conc)`; its coefficient is the rate at saturation."""
    return {"Vm": conc / (theta["K"] + conc)}
