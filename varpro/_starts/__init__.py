"""Starting values: what the data say of parameters without a start."""
