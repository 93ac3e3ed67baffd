"""Fits of many curves, each with parameters of its own."""
