"""Policy search as convex optimisation: relative entropy policy search and its neighbours, solved and certified."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "Batch": ".batch",
    "EpisodicREPS": ".problems.samples",
    "MDP": ".mdp",
    "REPS": ".problems.occupancy",
    "LinearProgram": ".problems.occupancy",
    "SampleREPS": ".problems.samples",
    "Solution": ".solution",
    "Status": ".solution",
    "solve": ".solving",
    "top_half": ".problems.samples",
}

__version__ = "0.1.0"
__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
