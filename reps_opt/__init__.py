"""Policy search as convex optimisation: relative entropy policy search and its neighbours, solved and certified."""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "Batch": ".batch",
    "compare_policies": ".policy_comparison",
    "ConditionalREPS": ".problems.conditional",
    "CPO": ".learning.constrained",
    "ENAC": ".learning.natural_actor_critic",
    "EpisodicREPS": ".problems.episodes",
    "EpisodicREPSUpdate": ".learning.fitted_updates",
    "ExactNaturalGradient": ".problems.gradient_steps",
    "ExactPolicyGradient": ".problems.gradient_steps",
    "ExactTRPO": ".problems.policy_steps",
    "Factor": ".metrics",
    "FiniteHorizonREPS": ".problems.horizon",
    "gpomdp": ".learning.gradients",
    "History": ".history",
    "Identity": ".metrics",
    "importance_weights": ".learning.importance",
    "improve": ".learning.improvement",
    "iterate": ".exact_iteration",
    "LinearProgram": ".problems.linear_program",
    "MDP": ".processes.mdp",
    "natural_actor_critic": ".learning.gradients",
    "NaturalGradient": ".learning.updates",
    "NoImprovement": ".learning.records",
    "ORePS": ".problems.adversarial",
    "ParameterSearch": ".learning.parameter_search",
    "Product": ".metrics",
    "Record": ".learning.records",
    "reinforce": ".learning.gradients",
    "REPS": ".problems.reps",
    "REPSUpdate": ".learning.fitted_updates",
    "RewardWeightedRegression": ".learning.fitted_updates",
    "rollout": ".learning.rollouts",
    "RolloutError": ".learning.rollouts",
    "SampleREPS": ".problems.samples",
    "Solution": ".solution",
    "solve": ".solving",
    "Status": ".solution",
    "surrogate_step": ".problems.horizon_surrogate",
    "top_half": ".problems.episodes",
    "TRPO": ".learning.updates",
    "TrustRegionStep": ".problems.steps",
    "VanillaGradient": ".learning.updates",
}

__version__ = "0.2.0"
__all__ = [*_ORIGIN]
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
