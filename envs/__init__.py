"""Environments: small Markov decision processes and continuous control tasks."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "double_chain": ".chains",
    "garnet": ".random_mdps",
    "gridworld": ".grids",
    "layered": ".random_mdps",
    "lecture_chain": ".chains",
    "riverswim": ".chains",
    "single_chain": ".chains",
    "two_state": ".chains",
}

__all__ = sorted(_ORIGIN)
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
