"""Policy search as convex optimisation: relative entropy policy search and its neighbours, solved and certified."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "ExactTRPO": ".problems.policy_steps",
    "History": ".exact_iteration",
    "NaturalGradient": ".problems.gradient_steps",
    "PolicyGradient": ".problems.gradient_steps",
    "compare_policies": ".policy_comparison",
    "iterate": ".exact_iteration",
    "MDP": ".mdp",
    "REPS": ".problems.occupancy",
    "LinearProgram": ".problems.occupancy",
    "Solution": ".solution",
    "Status": ".solution",
    "solve": ".solving",
}

__version__ = "0.1.0"
__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
