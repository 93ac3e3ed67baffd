"""Fits of several data sets that have their coefficients in common."""
