"""Environments: small Markov decision processes and continuous control tasks.

The functions in lower case build a :class:`reps_opt.MDP`; :class:`TabularEnv` makes an environment of any. The classes
are Gymnasium environments that step one state or many. ``envs.register()`` gives them all ids ``reps_opt/...-v0``.
"""

from reps_opt._lazy import lazy_names

_ORIGIN = {
    "BatchedEnv": ".batched",
    "CartPole": ".cart_pole",
    "LQR": ".lqr",
    "LayeredMDP": ".random_mdps",
    "PixelPuddleWorld": ".puddle_world",
    "PixelSwingUp": ".swing_up",
    "PuddleWorld": ".puddle_world",
    "Pushing": ".pushing",
    "Reaching": ".reaching",
    "SwingUp": ".swing_up",
    "TabularEnv": ".tabular",
    "double_chain": ".chains",
    "garnet": ".random_mdps",
    "gridworld": ".grids",
    "layered": ".random_mdps",
    "lecture_chain": ".chains",
    "linearise": ".linear_quadratic",
    "register": ".registration",
    "riccati": ".linear_quadratic",
    "riverswim": ".chains",
    "single_chain": ".chains",
    "two_state": ".chains",
}

__all__ = sorted(_ORIGIN)
__getattr__, __dir__ = lazy_names(__name__, _ORIGIN)
