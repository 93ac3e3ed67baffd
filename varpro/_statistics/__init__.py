"""Uncertainty of a fit, and tests of what it leaves."""
