"""Stochastic controllers fitted to weighted samples, as scikit-learn estimators."""
