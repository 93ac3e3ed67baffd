"""Nonlinear parameters: starts, bounds, ties, and the coordinates in which a search moves."""
