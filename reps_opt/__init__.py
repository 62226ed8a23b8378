"""Policy search as convex optimisation: relative entropy policy search and its neighbours, solved and certified."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.3.0"
