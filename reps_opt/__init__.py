"""Policy search as convex optimisation: relative entropy policy search and its neighbours, solved and certified."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "MDP": ".mdp",
    "REPS": ".problems.occupancy",
    "ConditionalREPS": ".problems.conditional",
    "LinearProgram": ".problems.occupancy",
    "Solution": ".solution",
    "Status": ".solution",
    "solve": ".solving",
}

__version__ = "0.1.0"
__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
