"""Figures of results, drawn with matplotlib, which only the modules below import.

Nothing here changes a setting of matplotlib or registers a figure with pyplot: a figure is returned,
and style sheets of the user hold.
"""
