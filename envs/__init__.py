"""Environments: small Markov decision processes and continuous control tasks.

The functions in lower case build a :class:`reps_opt.MDP`; :class:`TabularEnv` makes an environment of any. The classes
are Gymnasium environments that step one state or many. ``envs.register()`` gives them all ids ``reps_opt/...-v0``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
