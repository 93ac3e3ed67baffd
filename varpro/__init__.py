"""Variable projection for separable nonlinear least squares: y ~ Phi(alpha) c."""

import lazy_loader

__version__ = "0.1.0"

# Public names stand in `__init__.pyi` and are imported on first use: JAX takes a second or more, and the
# command line has no use for it to show its help.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
