"""Fits of models whose matrix is an operator: too many coefficients for names and for a factorisation."""
