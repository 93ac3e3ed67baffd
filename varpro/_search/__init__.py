"""The search for the optimum: loops of Levenberg and Marquardt, starts, and the derivative of the answer."""
