"""One name for one thing: every public argument and reading is called what the glossary calls it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from reps_opt.values import OldName

PACKAGES = ("reps_opt", "reps_opt.divergences", "reps_opt.solvers", "policies", "envs")

GLOSSARY = {
    "eta": ("lam", "lagrange_multiplier", "dual_variable"),
    "epsilon": ("delta", "eps", "kl_bound", "max_kl_divergence", "target_kl", "trust_region", "radius"),
    "temperature": ("temp", "tau", "inverse_temperature"),
    "value": ("V", "v_function", "state_value", "state_values"),
    "theta": ("value_weights", "feature_weights"),
    "params": ("parameters", "policy_parameters"),
    "occupancy": ("visitation", "occupancy_measure", "state_action_distribution"),
    "reference": ("q", "prior_occupancy", "old_occupancy"),
    "policy": ("pi", "old_policy", "behaviour"),
    "gamma": ("discount", "discount_factor"),
    "mu0": ("p0", "initial_distribution", "start_distribution"),
    "ess": ("effective_sample_size", "n_effective"),
    "bellman_error": ("td_error",),
    "gae_lambda": ("trace", "trace_decay"),
    "predicted_gain": ("predicted_improvement", "expected_improvement"),
    "gain": ("improvement", "actual_improvement", "actual_gain"),
    "features": ("phi", "feature_map"),
    "rng": ("generator", "random", "np_rng"),
    "seed": ("random_seed", "random_state"),
    "n_states": ("num_states",),
    "n_actions": ("num_actions",),
    "n_iterations": ("iterations", "num_iterations", "n_iter", "n_updates"),
    "max_iterations": ("maxiter", "max_iter"),
    "n_episodes": ("num_episodes",),
    "n_steps": ("num_steps", "timesteps"),
    "tolerance": ("tol", "atol", "rtol"),
    "weights": ("sample_weights", "sample_weight", "w"),
    "ridge": ("regularization", "regularisation", "l2"),
    "net": ("slack",),  # c - A'v; "slack" is a ball that does not bind
    "flow": ("reduction",),
}
"""Each name, and what else it might be called."""

ESTIMATOR = "scikit-learn's name, in an estimator or a feature map that keeps its contract"
EXCEPTIONS = {
    "policies": {"random_state": ESTIMATOR, "max_iter": ESTIMATOR, "sample_weight": ESTIMATOR},
    "reps_opt.solvers.quadratic.Quadratic": {"rtol": "SciPy's name, for what its conjugate gradients are given"},
    "reps_opt.certificate.Certificate": {"tol": "the accuracy that a reader asks for, in one call"},
    "reps_opt.divergences.balls.Ball": {"radius": "of any divergence; epsilon is the size of a problem's ball"},
    "reps_opt.problem.Problem": {"radius": "as the certificate states it: of whatever ball, the least of several"},
    "reps_opt.problems.occupancy.OccupancyProblem": {"radius": "as Problem's"},
    "reps_opt.problems.online_step.ORePSStep": {"radius": "as Problem's"},
    "reps_opt.problems.steps.TrustRegionStep": {"radius": "as Problem's"},
    "reps_opt.problems.sample_solution.SampleSolution": {"sample_weights": "the field that weights(scale) scales"},
    "reps_opt.learning": {"trace": "taken for one release, with a warning: gae_lambda"},
    "reps_opt.history.History": {"iterations": "the iterations themselves, not how many"},
    "reps_opt.learning.improvement.Unevaluated": {"iterations": "as History's"},
}
"""Where another name stands, and why."""


def ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).split(".")[0] in ("reps_opt", "policies", "envs")


def below(cls: type) -> set[type]:
    """A class and its subclasses in the packages: the solutions, problems and updates behind public names too."""
    return {cls}.union(*(below(child) for child in cls.__subclasses__() if ours(child)))


def arguments(where: str, function: Any) -> Iterator[tuple[str, str]]:
    if ours(function) and not (inspect.isclass(function) and issubclass(function, Exception)):
        yield from ((where, name) for name in inspect.signature(function).parameters)


def spoken() -> Iterator[tuple[str, str]]:
    """Every argument and reading of public functions and classes: where it stands, and its name."""
    public = {getattr(package, name) for package in map(importlib.import_module, PACKAGES) for name in package.__all__}
    classes = set().union(*(below(thing) for thing in public if inspect.isclass(thing) and ours(thing)))
    for thing in public - classes:
        if callable(thing):
            yield from arguments(f"{thing.__module__}.{thing.__name__}", thing)
    for cls in classes:
        where = f"{cls.__module__}.{cls.__qualname__}"
        yield from arguments(where, cls)
        for name, member in vars(cls).items():
            if name.startswith("_") and name != "__call__":
                continue
            member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if inspect.isfunction(member):
                yield from arguments(where, member)
            if not isinstance(member, OldName):
                yield where, name
        yield from ((where, name) for name in inspect.get_annotations(cls) if not name.startswith("_"))


SYNONYMS = {synonym: name for name, synonyms in GLOSSARY.items() for synonym in synonyms}


def wrong(where: str, name: str) -> bool:
    allowed = (names for place, names in EXCEPTIONS.items() if where == place or where.startswith(f"{place}."))
    return name in SYNONYMS and not any(name in names for names in allowed)


def test_an_old_name_of_lambda_is_taken_only_beside_the_new_one() -> None:
    signatures: dict[str, set[str]] = {}
    for where, name in spoken():
        signatures.setdefault(where, set()).add(name)
    assert not [
        where for where, names in signatures.items() if "trace" in names and not names & {"gae_lambda", "lstd_lambda"}
    ]


def test_every_public_name_is_the_glossarys() -> None:
    found = set(spoken())
    assert GLOSSARY.keys() <= {name for _, name in found}  # the walk sees the library
    bad = sorted(f"{where}: {name}, which is called {SYNONYMS[name]}" for where, name in found if wrong(where, name))
    assert not bad, "\n".join(bad)
