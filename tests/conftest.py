"""Shared by all tests: no display for figures."""

import matplotlib

matplotlib.use("Agg")
