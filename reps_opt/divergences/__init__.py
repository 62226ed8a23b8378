"""Divergences: what the balls of a program are made of, one module a family."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
