"""Policy search as convex optimisation: relative entropy policy search and its neighbours, solved and certified."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "compare_policies": ".policy_comparison",
    "ConditionalREPS": ".problems.conditional",
    "CPO": ".updates",
    "ExactTRPO": ".problems.policy_steps",
    "Factor": ".metrics",
    "FiniteHorizonREPS": ".problems.horizon",
    "History": ".exact_iteration",
    "Identity": ".metrics",
    "iterate": ".exact_iteration",
    "LinearProgram": ".problems.occupancy",
    "MDP": ".mdp",
    "ExactNaturalGradient": ".problems.gradient_steps",
    "NaturalGradient": ".updates",
    "ORePS": ".problems.adversarial",
    "ExactPolicyGradient": ".problems.gradient_steps",
    "Product": ".metrics",
    "REPS": ".problems.occupancy",
    "Solution": ".solution",
    "solve": ".solving",
    "Status": ".solution",
    "surrogate_step": ".problems.horizon_surrogate",
    "TRPO": ".updates",
    "TrustRegionStep": ".problems.steps",
    "VanillaGradient": ".updates",
}

__version__ = "0.1.0"
__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
