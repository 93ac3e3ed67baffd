"""Data files: tables, arrays and cubes, read as samples."""
