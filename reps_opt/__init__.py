"""Policy search as convex optimisation: relative entropy policy search and its neighbours, solved and certified."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "Batch": ".batch",
    "compare_policies": ".policy_comparison",
    "EpisodicREPS": ".problems.samples",
    "ExactTRPO": ".problems.policy_steps",
    "FiniteHorizonREPS": ".problems.horizon",
    "History": ".exact_iteration",
    "iterate": ".exact_iteration",
    "LinearProgram": ".problems.occupancy",
    "MDP": ".mdp",
    "NaturalGradient": ".problems.gradient_steps",
    "ORePS": ".problems.adversarial",
    "PolicyGradient": ".problems.gradient_steps",
    "REPS": ".problems.occupancy",
    "SampleREPS": ".problems.samples",
    "Solution": ".solution",
    "solve": ".solving",
    "Status": ".solution",
    "surrogate_step": ".problems.horizon_surrogate",
    "top_half": ".problems.samples",
}

__version__ = "0.1.0"
__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
