"""The separable problem: data, columns, weights, and rules for coefficients."""
