"""Runs: fits whose results become a folder, whole or not at all."""
