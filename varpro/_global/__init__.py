"""One fit of several data sets that share parameters."""
