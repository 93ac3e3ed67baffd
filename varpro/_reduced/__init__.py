"""The reduced problem: the coefficients eliminated, a residual and a Jacobian in alpha alone."""
