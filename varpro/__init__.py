"""Variable projection for separable nonlinear least squares."""
