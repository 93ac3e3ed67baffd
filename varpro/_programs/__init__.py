"""Compiled programs: how they are compiled, how many a process keeps, and where others find them."""
