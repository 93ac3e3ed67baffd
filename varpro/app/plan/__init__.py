"""A checked configuration with its data and models, ready to be fitted."""
