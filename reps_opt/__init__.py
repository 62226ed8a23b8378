"""Policy search as convex optimisation: relative entropy policy search and its neighbours, solved and certified."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "FiniteHorizonREPS": ".problems.horizon",
    "MDP": ".mdp",
    "ORePS": ".problems.adversarial",
    "REPS": ".problems.occupancy",
    "LinearProgram": ".problems.occupancy",
    "TrustRegionStep": ".problems.steps",
    "Factor": ".metrics",
    "Identity": ".metrics",
    "Product": ".metrics",
    "VanillaGradient": ".updates",
    "NaturalGradient": ".updates",
    "TRPO": ".updates",
    "CPO": ".updates",
    "Solution": ".solution",
    "Status": ".solution",
    "solve": ".solving",
    "surrogate_step": ".problems.horizon_surrogate",
}

__version__ = "0.1.0"
__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
