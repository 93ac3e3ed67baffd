"""The application floor: files, configuration, figures and the command line.

It speaks the public API of varpro alone, and nothing in the core imports it.
"""
