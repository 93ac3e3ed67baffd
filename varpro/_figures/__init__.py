"""Figures of results, drawn with matplotlib, which only the modules below import.

Nothing here changes a setting of matplotlib, and style sheets of the user hold. A figure is returned; pyplot
knows it where it is in use, so that `plt.show()` and notebooks show it.
"""
