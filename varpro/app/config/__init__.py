"""Configuration files: what may stand in them, and where in the text it stands."""
