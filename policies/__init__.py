"""Stochastic controllers fitted to weighted samples, as scikit-learn estimators.

A policy is fitted with ``fit(states, actions, sample_weight)`` and then knows its mean (``predict``), its samples,
its log-density and its divergence from another policy. Weights are powers of the likelihood: a weight of two is a
sample seen twice, a weight of zero one never seen. (Only the noise of the linear policies counts samples as well: see
:class:`LinearGaussianPolicy`.) Names are loaded on first use; importing the package imports
neither torch nor scikit-learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
