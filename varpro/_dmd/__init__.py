"""Optimised dynamic mode decomposition."""
