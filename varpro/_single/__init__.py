"""The fit of one data set."""
